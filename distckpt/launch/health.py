"""What the workers of one start tell of their steps, and what follows from it: who hangs, how long a restart took."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from distckpt.launch.supervisor import Hung
from distckpt.observe.step_file import VARIABLE, Steps, read_steps
from distckpt.runtime import in_hand

LOOK_S = 0.5
"""How often the workers are looked at, where someone wants to know."""


@dataclass(frozen=True, slots=True)
class Failure:
    """When a start failed. `since` is when the worker was killed, or finished its last step, where that is known."""

    noticed_at: float
    since: float | None


class Health:
    """Follows the workers of one job through their step files, in a folder of its own that goes with `close`.

    `say` is told how long each restart took; `show`, now and then, how far the training is. All times are of
    `time.monotonic`.
    """

    def __init__(
        self, hang_timeout_s: float | None, say: Callable[[str], None], show: Callable[[str], None] | None
    ) -> None:
        self._hang_timeout_s = hang_timeout_s
        self._say = say
        self._show = show
        self._folder = tempfile.TemporaryDirectory(prefix="distckpt-run-")
        self._workers = 0
        self._attempt = 0
        self._started_at = 0.0
        self._looked_at = 0.0
        self._killed_at: float | None = None
        self._failure: Failure | None = None
        self._failing = False

    def close(self) -> None:
        self._folder.cleanup()

    def begin(self, attempt: int, workers: int, now: float) -> None:
        """A start: forgets what the workers of the one before told."""
        self._attempt, self._workers, self._started_at = attempt, workers, now
        self._killed_at = None
        self._failing = False
        folder = Path(self._folder.name)
        shutil.rmtree(folder)
        folder.mkdir(mode=0o700)
        for worker in range(workers):
            self._hand(worker).mkdir()

    def environ(self, worker: int) -> Mapping[str, str]:
        return {VARIABLE: self._path(worker), in_hand.VARIABLE: str(self._hand(worker))}

    def in_hand(self, alive: Collection[int]) -> str:
        """What those that live have undone, in words; "" for nothing."""
        return ", ".join(sorted({what for worker in alive for what in in_hand.in_hand(self._hand(worker))}))

    def killed(self, now: float) -> None:
        """Someone killed a worker just now: so its death was noticed later."""
        self._killed_at = now

    def failed(self, now: float) -> None:
        """A worker failed. Only the first one of a start counts."""
        self._fail(Failure(now, self._killed_at))

    def next_look(self) -> float | None:
        """When `look` is wanted; None where nobody wants to know."""
        wanted = self._hang_timeout_s is not None or self._show is not None or self._failure is not None
        return self._looked_at + LOOK_S if wanted else None

    def look(self, now: float, alive: Collection[int]) -> Hung | None:
        """Says and shows what there is to tell; returns the worker that hangs, if one of those that live does."""
        next_look = self.next_look()
        if next_look is None or now < next_look:
            return None
        self._looked_at = now
        steps = [read_steps(self._path(worker)) for worker in range(self._workers)]
        if self._show is not None:
            self._show(progress(steps, self._attempt, now - self._started_at))
        if self._failing:
            return None
        if self._failure is not None:
            self._tell_recovery(self._failure, steps)
        living = {worker: steps[worker] for worker in alive}
        found = None if self._hang_timeout_s is None else hung(living, self._hang_timeout_s, now)
        if found is not None:
            self._fail(Failure(now, now - found.silent_s))
        return found

    def _fail(self, failure: Failure) -> None:
        if not self._failing:
            self._failing = True
            self._failure = failure

    def _tell_recovery(self, failure: Failure, steps: Sequence[Steps]) -> None:
        sentence = recovery_sentence(failure, self._started_at, steps)
        if sentence is not None:
            self._say(sentence)
            self._failure = None

    def _path(self, worker: int) -> str:
        return str(Path(self._folder.name) / f"worker-{worker}")

    def _hand(self, worker: int) -> Path:
        return Path(self._folder.name) / f"in-hand-{worker}"


def hung(steps: Mapping[int, Steps], timeout_s: float, now: float) -> Hung | None:
    """The worker that has been silent longest, if for more than `timeout_s`.

    A worker counts from its first step on: importing, restoring and compiling take what time they take.
    """
    begun = [(each.last_at, worker) for worker, each in steps.items() if each.first_at]
    if not begun or now - min(begun)[0] <= timeout_s:
        return None
    last_at, worker = min(begun)
    return Hung(worker, now - last_at, steps[worker].last)


def recovery_sentence(failure: Failure, started_at: float, steps: Sequence[Steps]) -> str | None:
    """What lay between a failure and the next start's first step; None until every worker has finished one."""
    if not all(each.first_at for each in steps):
        return None
    restoring_at = max(each.restoring_at for each in steps)
    restored_at = max(each.restored_at for each in steps)
    first_at = max(each.first_at for each in steps)
    begun = failure.noticed_at if failure.since is None else failure.since
    parts = [] if failure.since is None else [("to notice", failure.noticed_at - failure.since)]
    parts.append(("to stop the others", started_at - failure.noticed_at))
    if all(each.restored_at for each in steps):
        parts += [("to start", restoring_at - started_at), ("to restore", restored_at - restoring_at)]
        parts.append(("for the step", first_at - restored_at))
    else:
        parts.append(("to start and finish a step", first_at - started_at))
    told = ", ".join(f"{max(0.0, seconds):.2f} s {what}" for what, seconds in parts)
    return f"step {steps[0].first} is the first since the failure, {first_at - begun:.2f} s after it: {told}"


def progress(steps: Sequence[Steps], attempt: int, lived_s: float) -> str:
    """One line: `2 workers, step 1,204, 11.8 steps/s, start 2, 0:12:04`. A worker that lags is named."""
    parts = [f"{len(steps)} workers" if len(steps) > 1 else "1 worker"]
    if all(each.first_at for each in steps):
        parts.append(_step(steps))
        with suppress(ZeroDivisionError):
            chief = steps[0]
            parts.append(f"{(chief.last - chief.first) / (chief.last_at - chief.first_at):.3g} steps/s")
    else:
        parts.append("starting")
    if attempt:
        parts.append(f"start {attempt + 1}")
    minutes, seconds = divmod(int(lived_s), 60)
    return ", ".join([*parts, f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"])


def _step(steps: Sequence[Steps]) -> str:
    last, worker = min((each.last, worker) for worker, each in enumerate(steps))
    behind = max(each.last for each in steps) - last
    return f"step {last:,}" + (f" (worker {worker} is {behind:,} behind)" if behind > 1 else "")
