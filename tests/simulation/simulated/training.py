"""The training thread of a simulated process: restores, trains, saves, and reacts to errors as their advice says."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from simulated.model import read_tag

from distckpt.errors import ObjectMissing, error_from
from distckpt.model import Cause
from distckpt.protocol import effects, events
from distckpt.protocol.gate import Gate
from distckpt.protocol.messages import Agreed, Committed, RestoreDecided

if TYPE_CHECKING:
    from simulated.process import Process

STEP_S = 0.3
FAILURES_MAX = 3


class Training:
    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.world
        self._ordinal = 0
        self._failures = 0
        self.step = 0
        self.gate = Gate()
        self._held_at: float | None = None
        self._saves = False
        self._salvage: tuple[int, int] | None = None
        self._waits_for_salvage = False
        self.asked: dict[int, float] = {}
        """The requests that have no outcome yet, with their times."""

    def begin(self) -> None:
        self._restore()

    def hear(self, effect: effects.Resolve | effects.RestoreResolved | effects.Stopped) -> None:
        """The agent says that something is over."""
        match effect:
            case effects.Resolve(ordinal=ordinal, result=result):
                self._save_over(ordinal, result)
            case effects.RestoreResolved(ordinal=ordinal, result=decision):
                self._restore_over(ordinal, decision)
            case effects.Stopped(cause=cause):
                why = "stopped" if cause is None else f"{cause.kind}: {cause.message}"
                self._world.at(0, lambda: self._process.die(why))

    def _next(self) -> int:
        self._ordinal += 1
        self.asked[self._ordinal] = self._world.now
        return self._ordinal

    def _over(self, ordinal: int) -> None:
        self._world.checker.resolved(self._process, self.asked.pop(ordinal))

    def _restore(self) -> None:
        self._process.handle(events.RestoreRequested(self._next(), "latest"))

    def _restore_over(self, ordinal: int, result: RestoreDecided | Cause) -> None:
        self._over(ordinal)
        self._world.tell(f"{self._process} restore {ordinal}: {_shown(result)}")
        if isinstance(result, Cause) and result.kind == "NoRestorableCheckpoint":
            self._world.at(STEP_S, self._train)  # told that all is lost, the user begins anew
            return
        if isinstance(result, Cause):
            self._failed(result, self._restore)
            return
        self._world.checker.restored(self._process, result)
        if result.name is not None:
            try:
                self.step = read_tag(self._process.files, result.name)[1]
            except ObjectMissing:
                self._world.checker.require(self._world.is_superseded(self._process), f"{result.name} vanished")
                self._world.at(0, lambda: self._process.die("the checkpoint belongs to a later generation"))
                return
        self._world.at(self._world.rng.uniform(0.1, 0.5), self._train)

    def _train(self) -> None:
        if not self._process.alive or self._process.postponed(self._train):
            return
        every = self._world.faults.snapshot_every
        if every and not self._world.all_are_at(self._process):
            self._world.at(STEP_S, self._train)  # in a collective, that waits for the others
            return
        self.step += 1
        if every and self.step % every == 0:
            self._process.keep(self.step)
        guarded = self.gate.ended(self.step)
        self._process.handle(events.Progress(self.step))
        self._held_at = self._world.now
        if guarded:
            self.go_on()
        else:
            self._step_over(None)

    def go_on(self) -> None:
        """The end of a step, unless the training is held there; also called when it may be held no more."""
        if self._held_at is None or self.gate.holds or not self._process.alive:
            return
        self._step_over(self.gate.take_due())

    def _step_over(self, agreed: Agreed | None) -> None:
        self.check_held()
        self._held_at = None
        if agreed is None and self.step % self._world.faults.save_every:
            self._world.at(STEP_S * self._world.rng.uniform(0.5, 1.5), self._train)
        else:
            self._save()

    def check_held(self) -> None:
        if self._held_at is not None:
            self._world.checker.held(self._process, self._held_at)

    def begin_salvage(self, step: int) -> int | None:
        """The ordinal of a save of what was kept of `step`; None while a save of the training's own is under way."""
        if self._saves:
            return None
        self._salvage = (self._next(), step)
        return self._salvage[0]

    def salvages(self, ordinal: int) -> bool:
        return self._salvage is not None and self._salvage[0] == ordinal

    def _save(self) -> None:
        if self._world.rng.random() < self._world.faults.wrong_step:
            self.step += 1
        if self._salvage is not None:
            self._waits_for_salvage = True
            return
        self._saves = True
        self._process.request_save(self._next(), self.step, captured=not self._world.faults.capture_late)

    def _salvage_over(self, step: int, result: Committed | Cause) -> None:
        self._salvage = None
        self._world.tell(f"{self._process} salvage of step {step}: {_shown(result)}")
        if isinstance(result, Committed):
            self._world.checker.acknowledged(self._process, result.checkpoint, step)
        if self._waits_for_salvage:
            self._waits_for_salvage = False
            self._world.at(0, lambda: self._process.guarded(self._save))

    def _save_over(self, ordinal: int, result: Committed | Cause) -> None:
        self._over(ordinal)
        if self._salvage is not None and ordinal == self._salvage[0]:
            self._salvage_over(self._salvage[1], result)
            return
        self._saves = False
        self._world.tell(f"{self._process} save {ordinal} of step {self.step}: {_shown(result)}")
        if isinstance(result, Cause):
            if result.kind == "ReplicasDiffer":
                self._world.checker.refused(self._process, result)
            self._failed(result, self._train)
            return
        self._failures = 0
        self._world.checker.acknowledged(self._process, result.checkpoint, self.step)
        self._world.saved(self._process)
        self._world.at(STEP_S, self._train)

    def _failed(self, cause: Cause, again: Callable[[], None]) -> None:
        """Tries again where the error's advice is to, some times; else this process ends."""
        self._failures += 1
        if error_from(cause).advice == "retry" and self._failures <= FAILURES_MAX:
            self._world.at(STEP_S, lambda: self._process.guarded(again))
        else:
            self._world.at(0, lambda: self._process.die(f"{cause.kind}: {cause.message}"))


def _shown(result: Committed | RestoreDecided | Cause) -> str:
    if isinstance(result, Cause):
        return f"{result.kind}: {result.message}"
    return result.checkpoint.name if isinstance(result, Committed) else str(result.name)
