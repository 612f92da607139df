"""What is known of the end of this worker, and what is to be done about it."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from distckpt.errors import ConfigurationError

GRACE = "DISTCKPT_GRACE_S"
"""The environment variable by which whoever starts a worker says how long it lives after SIGTERM, in seconds."""
_GRACE_S = 30.0  # Kubernetes' terminationGracePeriodSeconds and Slurm's KillWait, where nobody set another
_EXIT_CODES = 256


@dataclass(frozen=True, slots=True)
class PreemptionNotice:
    """This worker will be gone at `deadline` (seconds since the epoch).

    `source` says who told. `final` False: it may be gone, and no date is known (`deadline` is infinite): a save, and
    the training goes on.
    """

    deadline: float
    source: str
    worker: int
    final: bool = True


ENDS, WARNS = True, False
Notify = Callable[[str, float, bool], None]
"""Takes a notice's source, its deadline, and whether it ENDS this worker or only WARNS; from any thread."""


@dataclass(frozen=True, slots=True)
class Preemption:
    """What a `CheckpointManager` does about preemption notices: all workers save at the next step and end.

    - `exit_code`: with which each ends after the commit; restart policies take 143 (128 + SIGTERM) for a worker that
      was told to go. None: the training goes on until it is killed.
    - `grace_s`: how long a worker lives after one of `signals`; default: the environment variable DISTCKPT_GRACE_S,
      else 30 s. The save must fit: where the earlier ones took longer, it is not begun.
    - `signals`: those that are notices.
    - `time_limit_s`: under Slurm, so long before the job's time limit it is a notice.

    The metadata services of Google and Amazon are asked on their machines only. Raises ConfigurationError.
    """

    exit_code: int | None = 143
    grace_s: float | None = None
    signals: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGINT)
    time_limit_s: float = 120.0

    def __post_init__(self) -> None:
        if self.exit_code is not None and self.exit_code not in range(_EXIT_CODES):
            raise ConfigurationError(f"Preemption(exit_code=...) takes 0 to 255 or None, got {self.exit_code!r}")
        for name, seconds in (("grace_s", self.grace_s), ("time_limit_s", self.time_limit_s)):
            if seconds is not None and not 0 < seconds < math.inf:
                raise ConfigurationError(f"Preemption({name}=...) takes a positive number, got {seconds!r}")

    def grace(self, environ: Mapping[str, str] = os.environ) -> float:
        """Seconds from a signal to the end."""
        if self.grace_s is not None:
            return self.grace_s
        told = environ.get(GRACE)
        try:
            seconds = _GRACE_S if told is None else float(told)
        except ValueError:
            seconds = math.nan
        if not 0 < seconds < math.inf:
            raise ConfigurationError(f"{GRACE}={told!r} is not a number of seconds, more than 0")
        return seconds


def settings_of(preemption: Preemption | bool | None) -> Preemption | None:  # noqa: FBT001 - the public argument
    """What `CheckpointManager(preemption=...)` takes. Raises ConfigurationError."""
    if preemption is None or preemption is False:
        return None
    if preemption is True:
        return Preemption()
    if not isinstance(preemption, Preemption):
        raise ConfigurationError(f"preemption= takes True or a distckpt.Preemption, got {preemption!r}")
    return preemption
