"""`distckpt demo`: one training twice, undisturbed and with a worker killed in the middle; then the proof.

Promise: the demo ends well only if the killed job resumed from a commit, its last checkpoint is bit for bit that of the
undisturbed one, and plain TensorFlow restores it with the accuracy that the training had. The training itself is
`demo_training`, in processes of their own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from distckpt.errors import ConfigurationError
from distckpt.launch.demo_events import History
from distckpt.launch.demo_report import sentence, table
from distckpt.launch.job import JobSpec, LocalJob
from distckpt.launch.process import Stream

STEPS = 160
EVERY = 20
KILL_AFTER = 80
PROOF_DEADLINE_S = 120.0


class DemoFailed(Exception):
    """The demo did not show what it promises."""


class _Training:
    """One training: follows it line by line, and kills `victim` (a worker) when the chief has told of the commit."""

    def __init__(self, directory: Path, workers: int, victim: int | None, say: Callable[[str], None]) -> None:
        command = (sys.executable, "-m", "distckpt.launch.demo_training", str(directory), str(STEPS), str(EVERY))
        restarts = 0 if victim is None else 1
        self.history = History()
        self.job = LocalJob(JobSpec(command, workers, _environment(), restarts), self._follow, say)
        self._victim = victim
        self._say = say

    def _follow(self, worker: int, stream: Stream, line: bytes) -> None:
        event = self.history.add(worker, stream, line)
        text = None if event is None else sentence(worker, event)
        if text is not None:
            self._say(text)
        if self._victim is not None and any(saved.step >= KILL_AFTER for saved in self.history.saved):
            self._say(f"killing worker {self._victim} with SIGKILL")
            self.job.kill(self._victim)
            self._victim = None


@dataclass(slots=True)
class Demo:
    """One demonstration with `workers` workers, its files below `directory`, told through `tell`."""

    workers: int
    directory: Path
    tell: Callable[[str], None]
    _began: float = field(default_factory=time.monotonic)

    def run(self) -> None:
        """Raises DemoFailed where something is not as promised, ConfigurationError where scikit-learn is missing."""
        _check_scikit_learn()
        calm, disturbed = self.directory / "undisturbed", self.directory / "killed-and-resumed"
        self._head(f"1. {self.workers} workers train a small network on handwritten digits, undisturbed")
        expected = self._train(calm)
        victim = self.workers - 1
        self._head(f"2. The same again; worker {victim} is killed (SIGKILL) once step {KILL_AFTER} is committed")
        history = self._train(disturbed, victim)
        self._head("3. Proof: TensorFlow alone, in a process that cannot import distckpt, reads the last checkpoints")
        self._prove(calm, disturbed, expected, history)
        self._head(f"The checkpoints of the job that was killed (after step {KILL_AFTER}) and resumed")
        for line in table(history.saved):
            self.tell(line)

    def _train(self, directory: Path, victim: int | None = None) -> History:
        training = _Training(directory, self.workers, victim, self._say)
        code = training.job.run()
        if code != 0 or training.history.accuracy is None:
            told = "\n".join(training.history.stderr)
            raise DemoFailed(f"{told}\nthe training ended with code {code}; what its workers wrote last is above")
        return training.history

    def _prove(self, calm: Path, disturbed: Path, expected: History, history: History) -> None:
        _require(bool(history.resumed_at), "the killed job did not resume from a checkpoint")
        self._say(f"the killed job lost nothing that was committed: it went on from step {history.resumed_at[-1]}")
        found = _plain_tensorflow(disturbed, calm)
        different = found["different_tensors"]
        _require(not different, f"tensors differ from the undisturbed run's: {', '.join(different[:5])}")
        self._say(f"all {found['equal_tensors']} tensors of its last checkpoint are bit for bit the undisturbed run's")
        accuracies = {found["accuracy"], expected.accuracy, history.accuracy}
        _require(len(accuracies) == 1, f"the accuracies differ: {accuracies}")
        self._say(
            f"the network that plain TensorFlow restored reads {found['accuracy']:.2%} right, as both trained ones"
        )

    def _head(self, text: str) -> None:
        self.tell(f"\n{text}")

    def _say(self, text: str) -> None:
        self.tell(f"{time.monotonic() - self._began:7.1f} s  {text}")


def _require(condition: bool, otherwise: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not condition:
        raise DemoFailed(otherwise)


def _check_scikit_learn() -> None:
    if find_spec("sklearn") is None:
        raise ConfigurationError("the demo trains on scikit-learn's digits: pip install 'distckpt[demo]'")


def _environment() -> Mapping[str, str]:
    """TensorFlow's greetings are left out; no GPU, so that the demo is the same everywhere."""
    return {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}


def _plain_tensorflow(directory: Path, other: Path) -> Mapping[str, Any]:
    script = Path(__file__).with_name("demo_classifier.py")
    done = subprocess.run(  # noqa: S603 - our own script, our own arguments
        [sys.executable, "-I", str(script), str(directory), str(other)],
        capture_output=True,
        text=True,
        env=_environment(),
        timeout=PROOF_DEADLINE_S,
        check=False,
    )
    if done.returncode != 0:
        raise DemoFailed(f"{done.stderr}\nplain TensorFlow could not read {directory}")
    found: Mapping[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
