"""When the coordinator is gone in the middle of a save: a survivor takes the directory over and commits it.

Mirrored values are on every worker, so any that has captured the save can write all of it. The survivors do not talk:
each looks at the journal, and they take turns in the order of their indices. The journal decides if two try, or if a
new start of the job came first. The others follow the journal for the outcome.

Promised: nobody takes over from a coordinator that shows that it lives, or that left at a normal end; what this worker
says of the save is what the journal says, or that the outcome is unknown; all of it ends within `takeover_s`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from distckpt.model import Cause, Checkpoint
from distckpt.protocol.deadlines import Deadlines
from distckpt.protocol.effects import AgentEffect, LookAtJournal, TakeOver
from distckpt.protocol.events import JournalSeen, TakeOverEnded
from distckpt.protocol.machine import Machine
from distckpt.protocol.messages import Sender
from distckpt.protocol.requests import Outbox


class TakeoverState(Enum):
    WATCHING = "watching"
    TAKING = "taking"
    FOLLOWING = "following"
    ENDED = "ended"


_TABLE = {
    TakeoverState.WATCHING: (TakeoverState.TAKING, TakeoverState.FOLLOWING, TakeoverState.ENDED),
    TakeoverState.TAKING: (TakeoverState.FOLLOWING, TakeoverState.ENDED),
    TakeoverState.FOLLOWING: (TakeoverState.ENDED,),
    TakeoverState.ENDED: (),
}


class Takeover:
    """Of one save, for checkpoint `name`: `order` is what it takes. `why` is how the coordinator was lost.

    `result` is what became of the save, None while that is open. `has_acted`: it, or another survivor, may commit it.
    `has_newer`: whether this worker can commit a later step; then this one is given up, as a survivor commits once.
    """

    def __init__(
        self,
        order: TakeOver,
        name: str,
        why: Cause,
        outbox: Outbox,
        deadlines: Deadlines,
        has_newer: Callable[[], bool],
    ) -> None:
        self.ordinal = order.ordinal
        self._order = order
        self.result: Checkpoint | Cause | None = None
        self._name = name
        self.why = why
        self._outbox = outbox
        self._deadlines = deadlines
        self._has_newer = has_newer
        self._me: Sender = outbox.me
        self._machine = Machine(f"takeover of {name} by worker {self._me.worker}", _TABLE, TakeoverState.WATCHING)
        self._begun_at = outbox.now
        self._turn_at = outbox.now + deadlines.turn_s * self._me.worker
        self._look_at = outbox.now
        self._looking = False
        self.has_acted = False
        self._followed = self._me.generation
        self._looks = 0
        self._sign: str | None = None
        self._sign_at = outbox.now

    @property
    def state(self) -> TakeoverState:
        return self._machine.state

    @property
    def until(self) -> float:
        return self._begun_at + self._deadlines.takeover_s

    @property
    def deadline(self) -> float:
        """When a Tick is wanted."""
        return self.until if self._looking or self.state is TakeoverState.TAKING else min(self.until, self._look_at)

    def tick(self) -> None:
        now = self._outbox.now
        if now >= self.until:
            self._end(self._unknown(f"no outcome {now - self._begun_at:.1f} s after that"), "too late")
        elif now >= self._look_at and not self._looking and self.state is not TakeoverState.TAKING:
            self._looking = True
            self._do(LookAtJournal(self.ordinal, self._name))

    def seen(self, event: JournalSeen) -> None:
        """Takes one look at the journal."""
        self._looking = False
        now = self._outbox.now
        self._look_at = now + self._deadlines.resend_s
        if self.state not in (TakeoverState.WATCHING, TakeoverState.FOLLOWING) or event.generation is None:
            return
        if event.committed is not None:
            self._end(event.committed, "the journal has it")
        elif event.generation != self._followed:
            self._changed(event)
        else:
            self._watch(event)

    def ended(self, event: TakeOverEnded) -> None:
        """Takes the outcome of TakeOver: committed; somebody else was faster (no cause); or failed, with the cause."""
        if self.state is not TakeoverState.TAKING:
            return
        if event.committed is not None:
            self._end(event.committed, "taken over and committed")
        elif event.cause is not None:
            self._end(event.cause, event.cause.message)
        else:
            self._machine.go(TakeoverState.FOLLOWING, "another was faster", self._outbox.now)
            self._look_at = self._outbox.now

    def _changed(self, event: JournalSeen) -> None:
        """Another generation holds the directory: a survivor's, which may commit the save, or a new start's."""
        assert event.generation is not None
        self.has_acted = True
        if event.is_start:
            told = f"{self.why.message}; generation {event.generation}, a new start of the job, has taken over"
            self._end(Cause("Fenced", told), "a new start was faster")
            return
        if self.state is TakeoverState.WATCHING:
            self._machine.go(TakeoverState.FOLLOWING, f"generation {event.generation} has begun", self._outbox.now)
        self._followed = event.generation
        self._looks = 0
        self._sign, self._sign_at = event.sign, self._outbox.now

    def _watch(self, event: JournalSeen) -> None:
        """The holder of the directory shows that it lives, or it is this worker's turn one day."""
        now = self._outbox.now
        self._looks += 1
        beats = event.sign != self._sign and self._looks > 1
        if event.sign != self._sign:
            self._sign, self._sign_at = event.sign, now
        if self.state is TakeoverState.FOLLOWING:
            if event.is_gone or event.has_left or now >= self._sign_at + self._deadlines.silence_s:
                self._end(self._unknown(f"who took over in generation {self._followed} is gone too"), "gone too")
        elif beats or event.has_left:
            # One that left has ended its saves; of this one it never knew.
            self._end(self.why, "the coordinator lives, or has left as it should")
        else:
            self._wait_for_turn(is_gone=event.is_gone)

    def _wait_for_turn(self, *, is_gone: bool) -> None:
        """Whoever gives no sign of life for a turn is dead; where that is certain at once, all turns come earlier."""
        now = self._outbox.now
        turn_at = self._turn_at - self._deadlines.turn_s if is_gone else self._turn_at
        if now >= turn_at and self._has_newer():
            self._end(self.why, "a later step is kept, and saved instead")
        elif now >= turn_at:
            self.has_acted = True
            self._machine.go(TakeoverState.TAKING, "it is this worker's turn", now)
            self._do(self._order)
        else:
            self._look_at = min(self._look_at, turn_at)

    def _unknown(self, what: str) -> Cause:
        told = f"{self.why.message}; {what}; it may be committed or not: look before you act"
        return Cause("OutcomeUnknown", told, self.why.worker)

    def _end(self, result: Checkpoint | Cause, why: str) -> None:
        self.result = result
        self._machine.go(TakeoverState.ENDED, why, self._outbox.now)

    def _do(self, effect: AgentEffect) -> None:
        self._outbox.do(effect)
