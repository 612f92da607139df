"""Decides when the workers of a local job are started, stopped and started again. Pure: no clock, process or signal.

Promise: one worker's failure ends all of them within the grace period, and either all start again together or the job
ends with the code of the worker that failed first. Callers pass every event in order, with the time, carry out the
effects in order, and pass a `Tick` when `next_deadline()` has come.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Exited:
    """A worker ended. `code` is its exit code, or minus the signal that killed it (as `subprocess` says it)."""

    worker: int
    code: int


@dataclass(frozen=True, slots=True)
class Asked:
    """The launcher itself was sent `signum`: whoever runs the job wants it to end."""

    signum: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Time went by."""


Event = Exited | Asked | Tick


@dataclass(frozen=True, slots=True)
class Start:
    """Start all workers, as attempt `attempt` (0 is the first)."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Signal:
    """Send `signum` to a worker and all its descendants."""

    worker: int
    signum: int


@dataclass(frozen=True, slots=True)
class Say:
    """Tell the person who runs the job."""

    text: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The job has ended: exit with `code`."""

    code: int


Effect = Start | Signal | Say | Finish


def exit_code(code: int) -> int:
    """What a shell shows for `code`: 128 + the signal for a process that a signal killed."""
    return code if code >= 0 else 128 - code


def describe_exit(code: int) -> str:
    """In words: `exited with code 3`, `was killed by SIGKILL`."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


@dataclass(slots=True)
class Supervisor:
    """One job of `workers` workers, restarted at most `max_restarts` times; `grace_s` is from SIGTERM to SIGKILL."""

    workers: int
    max_restarts: int
    grace_s: float
    _attempt: int = 0
    _alive: set[int] = field(default_factory=set)
    _failure: Exited | None = None
    _asked: bool = False
    _deadline: float | None = None

    def begin(self) -> list[Effect]:
        return [self._start(0)]

    def next_deadline(self) -> float | None:
        """When a `Tick` is wanted, if nothing else comes before."""
        return self._deadline

    def handle(self, event: Event, now: float) -> list[Effect]:
        match event:
            case Exited():
                return self._on_exit(event, now)
            case Asked():
                return self._on_asked(event)
            case Tick():
                return self._on_tick(now)

    def _on_exit(self, event: Exited, now: float) -> list[Effect]:
        self._alive.discard(event.worker)
        effects: list[Effect] = []
        if event.code != 0 and self._failure is None:
            effects = self._on_first_failure(event, now)
        return effects if self._alive else [*effects, *self._on_all_gone()]

    def _on_first_failure(self, event: Exited, now: float) -> list[Effect]:
        self._failure = event
        self._deadline = now + self.grace_s
        told = f"worker {event.worker} {describe_exit(event.code)}"
        if self._asked or not self._alive:
            return [Say(told)]
        return [Say(f"{told}: stopping the others"), *self._signal_all(signal.SIGTERM)]

    def _on_all_gone(self) -> list[Effect]:
        self._deadline = None
        if self._failure is None:
            return [Finish(0)]
        code = exit_code(self._failure.code)
        if self._asked:
            return [Finish(code)]
        if self.max_restarts == 0:
            return [Finish(code)]
        if self._attempt >= self.max_restarts:
            return [Say(f"giving up after {self._attempt} of {self.max_restarts} restarts"), Finish(code)]
        attempt = self._attempt + 1
        return [Say(f"restart {attempt} of {self.max_restarts}: starting all workers again"), self._start(attempt)]

    def _on_asked(self, event: Asked) -> list[Effect]:
        if self._asked:
            return [Say("asked again: killing all workers"), *self._signal_all(signal.SIGKILL)]
        self._asked = True
        name = signal.Signals(event.signum).name
        return [Say(f"{name}: passed on to all workers (once more kills them)"), *self._signal_all(event.signum)]

    def _on_tick(self, now: float) -> list[Effect]:
        if self._deadline is None or now < self._deadline:
            return []
        self._deadline = None
        late = ", ".join(map(str, sorted(self._alive)))
        return [Say(f"still running after {self.grace_s:g} s: killing {late}"), *self._signal_all(signal.SIGKILL)]

    def _start(self, attempt: int) -> Start:
        self._attempt = attempt
        self._alive = set(range(self.workers))
        self._failure = None
        return Start(attempt)

    def _signal_all(self, signum: int) -> list[Signal]:
        return [Signal(worker, signum) for worker in sorted(self._alive)]
