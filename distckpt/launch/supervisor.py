"""Decides when the workers of a local job are started, stopped and started again. Pure: no clock, process or signal.

Promise: one worker's failure ends all of them within the grace period, which begins when the others have finished the
save that they have in hand, after FINISH_S at the latest. Then either all start again together, or the job ends with
the code of the worker that failed first. What a hung worker was doing is shown before it is killed. Callers pass every
event in order, with the time, carry out the effects in order, and pass a `Tick` when `next_deadline()` has come; while
`finishing` they look often whether the work is done, and pass `Finished`.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field

from distckpt.launch.restarts import Restarts

FINISH_S = 120.0
"""So long the others may finish what they have in hand when a worker fails."""


@dataclass(frozen=True, slots=True)
class Exited:
    """A worker ended. `code` is its exit code, or minus the signal that killed it (as `subprocess` says it).

    `in_hand` is what the others have undone, in words; "" for nothing.
    """

    worker: int
    code: int
    in_hand: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """The launcher itself was sent `signum`: whoever runs the job wants it to end."""

    signum: int


@dataclass(frozen=True, slots=True)
class Hung:
    """`worker` has finished no step for `silent_s` seconds; its last one was `step`."""

    worker: int
    silent_s: float
    step: int


@dataclass(frozen=True, slots=True)
class Finished:
    """Nobody who lives has any work in hand."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time went by."""


Event = Exited | Asked | Hung | Finished | Tick


@dataclass(frozen=True, slots=True)
class Start:
    """Start `workers` workers, as attempt `attempt` (0 is the first)."""

    attempt: int
    workers: int


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
    """One job, restarted as `restarts` says; `grace_s` is from SIGTERM, or a hung worker's SIGABRT, to SIGKILL."""

    restarts: Restarts
    grace_s: float
    _attempt: int = -1
    _alive: set[int] = field(default_factory=set)
    _started: float = 0.0
    _failure: Exited | None = None
    _failed: float = 0.0
    _hung: bool = False
    _asked: bool = False
    _waiting: bool = False
    finishing: bool = False
    _deadline: float | None = None

    def begin(self, now: float) -> list[Effect]:
        return [self._start(now)]

    def next_deadline(self) -> float | None:
        """When a `Tick` is wanted, if nothing else comes before."""
        return self._deadline

    def handle(self, event: Event, now: float) -> list[Effect]:
        match event:
            case Exited():
                return self._on_exit(event, now)
            case Asked():
                return self._on_asked(event)
            case Hung():
                return self._on_hung(event, now)
            case Finished():
                return self._stop_others("that has ended", now) if self.finishing else []
            case Tick():
                return self._on_tick(now)

    def _on_exit(self, event: Exited, now: float) -> list[Effect]:
        self._alive.discard(event.worker)
        effects: list[Effect] = []
        if event.code != 0 and self._failure is None:
            effects = self._on_first_failure(event, now)
        return effects if self._alive else [*effects, *self._on_all_gone(now)]

    def _on_first_failure(self, event: Exited, now: float) -> list[Effect]:
        self._failure, self._failed = event, now
        told = f"worker {event.worker} {describe_exit(event.code)}"
        if self._hung:  # all have their signal and their deadline
            return [Say(told)]
        if self._alive and event.in_hand:
            self.finishing, self._deadline = True, now + FINISH_S
            return [Say(f"{told}: the others first finish {event.in_hand}, for at most {FINISH_S:g} s")]
        return self._stop_others(told, now)

    def _stop_others(self, why: str, now: float) -> list[Effect]:
        self.finishing, self._deadline = False, now + self.grace_s
        if self._asked or not self._alive:
            return [Say(why)]
        return [Say(f"{why}: stopping the others"), *self._signal_all(signal.SIGTERM)]

    def _on_all_gone(self, now: float) -> list[Effect]:
        self.finishing, self._deadline = False, None
        if self._failure is None:
            return [Finish(0)]
        code = exit_code(self._failure.code)
        if self._asked:
            return [Finish(code)]
        restart = self.restarts.after(self._failed - self._started, self._failure.code)
        allowed = self.restarts.policy.max_restarts
        if restart is None:
            told = [Say(f"giving up after {allowed} of {allowed} restarts")] if allowed else []
            return [*told, Finish(code)]
        if restart.after_s > 0:
            self._waiting, self._deadline = True, now + restart.after_s
            return [Say(f"{restart.why}: starting all workers again in {restart.after_s:g} s")]
        return [Say(f"{restart.why}: starting all workers again"), self._start(now)]

    def _on_asked(self, event: Asked) -> list[Effect]:
        name = signal.Signals(event.signum).name
        if self._waiting:
            assert self._failure is not None, "only a failure is followed by a wait"
            return [Say(f"{name}: not starting again"), Finish(exit_code(self._failure.code))]
        if self._asked:
            return [Say("asked again: killing all workers"), *self._signal_all(signal.SIGKILL)]
        self._asked = True
        return [Say(f"{name}: passed on to all workers (once more kills them)"), *self._signal_all(event.signum)]

    def _on_hung(self, event: Hung, now: float) -> list[Effect]:
        """Of all that still run: each may be waiting for another one."""
        if self._hung or self._failure is not None or event.worker not in self._alive:
            return []
        self._hung = True
        self._deadline = now + self.grace_s
        told = f"worker {event.worker} finished no step for {event.silent_s:.0f} s, its last was {event.step}"
        return [
            Say(f"{told}: stopping all workers with SIGABRT, which shows where they are"),
            *self._signal_all(signal.SIGABRT),
        ]

    def _on_tick(self, now: float) -> list[Effect]:
        if self._deadline is None or now < self._deadline:
            return []
        self._deadline = None
        if self._waiting:
            return [self._start(now)]
        if self.finishing:
            return self._stop_others(f"not finished after {FINISH_S:g} s", now)
        late = ", ".join(map(str, sorted(self._alive)))
        return [Say(f"still running after {self.grace_s:g} s: killing {late}"), *self._signal_all(signal.SIGKILL)]

    def _start(self, now: float) -> Start:
        self._attempt += 1
        self._alive = set(range(self.restarts.workers))
        self._started = now
        self._failure = None
        self._hung = self._waiting = False
        return Start(self._attempt, self.restarts.workers)

    def _signal_all(self, signum: int) -> list[Signal]:
        return [Signal(worker, signum) for worker in sorted(self._alive)]
