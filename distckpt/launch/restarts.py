"""Whether a job that failed starts again, when, and with how many workers. Pure: no clock.

Promise: a job whose every start fails at once ends after `max_restarts` restarts, each later than the one before; one
that fails now and then, after long health, goes on for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, field

PREEMPTED = 143
"""What a worker exits with that was told to go, saved, and went: 128 + SIGTERM. No fault of the job's."""

HEALTHY_AFTER_S = 600.0
BACKOFF_MAX_S = 60.0


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """At most `max_restarts` restarts in a row; a start that lived for `healthy_after_s` seconds begins a new row.

    The first restart of a row comes at once, the second after `backoff_s`, each further one after twice the time, up to
    BACKOFF_MAX_S. From the second on each has one worker less, down to `min_workers` (None: always the same number).
    """

    max_restarts: int = 0
    healthy_after_s: float = HEALTHY_AFTER_S
    backoff_s: float = 0.0
    min_workers: int | None = None


@dataclass(frozen=True, slots=True)
class Restart:
    """`why` says it as a person counts: `restart 2 of 3`."""

    after_s: float
    workers: int
    why: str


@dataclass(slots=True)
class Restarts:
    """Of one job, which begins with `workers` workers."""

    policy: RestartPolicy
    workers: int
    _spent: int = field(default=0, init=False)

    def after(self, lived_s: float, code: int) -> Restart | None:
        """What follows a start that lived for `lived_s` and failed with `code`; None: the job is given up."""
        if lived_s >= self.policy.healthy_after_s:
            self._spent = 0
        if code == PREEMPTED and self.policy.max_restarts > 0:
            return Restart(0.0, self.workers, "restart after a preemption (not counted)")
        if self._spent >= self.policy.max_restarts:
            return None
        self._spent += 1
        why = f"restart {self._spent} of {self.policy.max_restarts}"
        least = self.policy.min_workers
        if self._spent > 1 and least is not None and self.workers > least:
            self.workers -= 1
            why += ", with 1 worker" if self.workers == 1 else f", with {self.workers} workers"
        return Restart(self._backoff_s(), self.workers, why)

    def _backoff_s(self) -> float:
        exponent = min(self._spent - 2, 16)  # far above BACKOFF_MAX_S, and no overflow
        return 0.0 if self._spent == 1 else min(BACKOFF_MAX_S, self.policy.backoff_s * 2.0**exponent)
