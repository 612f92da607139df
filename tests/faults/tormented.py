"""A real training under the launcher, with a tormentor: workers, the chief too, are killed and frozen in its midst.

A round is one disturbance, of a drawn worker, after a drawn number of the lines that the workers tell; the next round
begins when the job goes on. In between, what is committed is looked at. `story` is what happened.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from random import Random
from threading import Timer

import distckpt
from distckpt.errors import ConfigurationError
from distckpt.launch.demo_training import MAX_TO_KEEP
from distckpt.launch.job import JobSpec, LocalJob
from distckpt.launch.process import Stream

SCRIPT = Path(__file__).with_name("tortured_training.py")
STEPS_A_ROUND = 20
HANG_S = 15.0
GRACE_S = 2.0
STORY_LINES_OF_STDERR = 40


class Kind(Enum):
    """KILL is SIGKILL, the others SIGSTOP and, so many seconds later, SIGCONT."""

    KILL = ()
    NAP = (0.05, 1.0)
    """Shorter than any deadline."""
    SLEEP = (4.0, 8.0)
    """Longer than silence_s of the training: the others take it for lost."""
    COMA = (30.0, 30.0)
    """Longer than HANG_S: the launcher ends this start. It sees no hang before the first step: there it is long."""


KINDS = (Kind.KILL, Kind.NAP, Kind.KILL, Kind.KILL, Kind.SLEEP, Kind.KILL, Kind.NAP, Kind.COMA)
"""A job's disturbances. The first half is the short form."""


class Tormented:
    """Runs `steps` steps on `workers` workers, disturbed in the order of `kinds`; the rest is drawn by `seed`."""

    def __init__(self, directory: Path, workers: int, steps: int, kinds: list[Kind], seed: int = 0) -> None:
        command = (sys.executable, str(SCRIPT), str(directory), str(steps))
        environ = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
        # Each disturbance may cost one restart, and no more.
        spec = JobSpec(command, workers, environ, max_restarts=len(kinds), hang_timeout_s=HANG_S, grace_s=GRACE_S)
        self.job = LocalJob(spec, self._follow, self._hear)
        self.kinds = kinds
        self.story: list[str] = []
        self.problems: list[str] = []
        self.looked = 0
        """How many checkpoints were verified on the way."""
        self._directory = directory
        self._workers = workers
        self._random = Random(seed)
        self._began = time.monotonic()
        self._acknowledged: set[int] = set()
        self._errors: list[str] = []
        self._resumed = False
        self._goes_on_at = 0.0
        self._lines_left = self._draw()

    def run(self) -> None:
        """To the end. Prints the story; raises AssertionError where anything is not as promised."""
        try:
            code = self.job.run()
            self._resumed = True
            self._look()
        finally:
            sys.stdout.write("\n".join([*self.story, *self._errors[-STORY_LINES_OF_STDERR:], ""]))
        assert (code, self.kinds, self.problems) == (0, [], [])

    def _tell(self, text: str) -> None:
        self.story.append(f"{time.monotonic() - self._began:7.2f} s  {text}")

    def _draw(self) -> int:
        """Half of the draws are of the first lines: while the job starts, restores, compiles."""
        return self._random.randint(1, self._workers * self._random.choice((3, STEPS_A_ROUND)))

    def _hear(self, text: str) -> None:
        self._tell(text)
        if text.endswith("starting all workers again"):
            self._resumed, self._goes_on_at = False, 0.0

    def _follow(self, worker: int, stream: Stream, line: bytes) -> None:
        if stream != "stdout":
            self._errors.append(f"[{worker}] {line.decode(errors='replace')}")
            return
        event = json.loads(line)
        if event["event"] == "saved":
            self._tell(f"[{worker}] has saved step {event['step']}")
        elif event["event"] != "step":
            self._tell(f"[{worker}] {line.decode()}")
        if event["event"] == "resumed":
            self._resumed = True
            if event["step"] < max(self._acknowledged, default=0):
                self.problems.append(f"{max(self._acknowledged)} was committed, and it went on from {event['step']}")
        elif event["event"] == "saved":
            self._acknowledged.add(event["step"])
        self._count()

    def _count(self) -> None:
        somebody_is_gone = len(self.job._alive) < self._workers  # so this start will end
        if somebody_is_gone or time.monotonic() < self._goes_on_at:
            return
        self._lines_left -= 1
        if self._lines_left == 0 and self.kinds:
            if self._resumed:
                self._look()
            self._lines_left = self._draw()
            self._disturb(self.kinds.pop(0), self._random.randrange(self._workers))

    def _disturb(self, kind: Kind, victim: int) -> None:
        if kind is Kind.KILL:
            self._tell(f"worker {victim} is killed")
            self._goes_on_at = float("inf")
            self.job.kill(victim)
            return
        seconds = self._random.uniform(*kind.value)
        self._tell(f"worker {victim} is frozen for {seconds:.2f} s")
        self._goes_on_at = time.monotonic() + seconds
        process = self.job._alive[victim]
        process.send(signal.SIGSTOP)
        waking = Timer(seconds, process.send, (signal.SIGCONT,))
        waking.daemon = True
        waking.start()

    def _look(self) -> None:
        """I1 and I2 of what is there now, while the job goes on: what is looked at is leased."""
        acknowledged = set(self._acknowledged)
        catalog = distckpt.Catalog(self._directory)
        live = [each.step for each in catalog.checkpoints]
        for step in sorted(acknowledged.difference(live)):
            if sum(newer > step for newer in live) < MAX_TO_KEEP:
                self.problems.append(f"step {step} was acknowledged, and there are only {live}")
        self.problems += [f"{each.checkpoint.name} was set aside: {each.reason}" for each in catalog.quarantined]
        for step, faults in self._verified(catalog, live):
            self.looked += 1
            self.problems += [f"step {step}: {fault}" for fault in faults]
        self._tell(f"looked at {live}")

    def _verified(self, catalog: distckpt.Catalog, live: list[int]) -> Iterator[tuple[int, list[object]]]:
        for step in live:
            try:
                with catalog.lease(step):
                    faults = catalog.verify(step)
            except ConfigurationError:  # retired since
                continue
            yield step, list(faults)
