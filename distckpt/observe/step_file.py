"""How far a worker has come, for the launcher that started it: a small file that each of the two has open.

The launcher names the file in DISTCKPT_STEP_FILE; where nobody did, nothing is written. The times are of the machine's
monotonic clock, which all its processes share, in seconds; 0 where it has not happened. A write costs a few
microseconds, and a launcher that reads in between sees the worker before or after it.
"""

from __future__ import annotations

import logging
import math
import os
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from distckpt.journal.process import start_of

log = logging.getLogger("distckpt")

VARIABLE = "DISTCKPT_STEP_FILE"
_RECORD = struct.Struct("<ddqdqdqq")


@dataclass(frozen=True, slots=True)
class Steps:
    """What a worker has told in this start. `last_at` is infinite once its CheckpointManager is closed.

    `pid` and `started` (`journal.process.start_of`) are the worker's process, for readers who did not start it.
    """

    restoring_at: float = 0.0
    restored_at: float = 0.0
    first: int = 0
    first_at: float = 0.0
    last: int = 0
    last_at: float = 0.0
    pid: int = 0
    started: int = 0

    def encode(self) -> bytes:
        times = (self.restoring_at, self.restored_at, self.first, self.first_at, self.last, self.last_at)
        return _RECORD.pack(*times, self.pid, self.started)

    @property
    def alive(self) -> bool:
        """Whether that process lives: a file may outlast a container."""
        return start_of(self.pid) == str(self.started)


def read_steps(path: str) -> Steps:
    """Of a worker that has told nothing yet: all zero."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - as the writer has it
            data = file.read(_RECORD.size)
    except FileNotFoundError:
        data = b""
    return Steps(*_RECORD.unpack(data)) if len(data) == _RECORD.size else Steps()


class StepFile:
    """The worker's side. Never raises: a file that cannot be written is told of in the log, once, and left alone."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._steps = Steps(pid=os.getpid(), started=int(start_of(os.getpid()) or 0))
        self._file = -1
        path = environ.get(VARIABLE)
        if path:
            try:
                self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                log.warning("the launcher is not told of the steps: %s", error)

    def restoring(self) -> None:
        self._tell(replace(self._steps, restoring_at=time.monotonic()))

    def restored(self) -> None:
        self._tell(replace(self._steps, restored_at=time.monotonic()))

    def step(self, step: int) -> None:
        if self._file < 0:  # nobody looks, and this is done at every step
            return
        now = time.monotonic()
        steps = self._steps
        first = (steps.first, steps.first_at) if steps.first_at else (step, now)
        self._tell(Steps(steps.restoring_at, steps.restored_at, *first, step, now, steps.pid, steps.started))

    def close(self) -> None:
        """The training is over: what comes now is no step, and takes what time it takes."""
        if self._file >= 0:
            self._tell(replace(self._steps, last_at=math.inf))
            os.close(self._file)
            self._file = -1

    def _tell(self, steps: Steps) -> None:
        self._steps = steps
        if self._file < 0:
            return
        try:
            os.pwrite(self._file, steps.encode(), 0)
        except OSError as error:
            log.warning("the launcher is not told of the steps any more: %s", error)
            os.close(self._file)
            self._file = -1
