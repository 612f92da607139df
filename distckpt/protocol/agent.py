"""The agent: runs on every worker, asks the coordinator for saves and restores, and sees that each has an outcome.

`handle(event, now)` is the only mutator; see events.py and effects.py for what the caller owes. Promised:
- every request is resolved once, whatever happens to the coordinator and the network. A save within `save_s`, a restore
  within `restore_s + silence_s`, both counted from the request or from joining, whichever is later; sooner when the
  coordinator is silent for `silence_s` or cannot be joined within `join_s`. A save that is captured has `takeover_s`
  more then, in which a survivor may commit it (takeover.py);
- a save whose outcome was not learnt ends with an error that does not say that it was not committed;
- the training is held for `held_s` at most, where a save that no worker foresaw is being agreed on;
- what was staged for a save that came to nothing, and was not handed in, is discarded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import Enum
from functools import partial
from typing import Any, ClassVar

from distckpt.model import CHIEF, Cause
from distckpt.protocol import events, messages
from distckpt.protocol.agent_ceiling import Ceilings
from distckpt.protocol.agent_restore import Restoring
from distckpt.protocol.agent_salvage import Keeping
from distckpt.protocol.agent_save import Saving
from distckpt.protocol.deadlines import Deadlines
from distckpt.protocol.effects import AgentEffect, Stopped, TakeOver
from distckpt.protocol.events import AgentEvent
from distckpt.protocol.machine import IllegalTransition, Machine
from distckpt.protocol.messages import CoordinatorMessage, Heartbeat, Join, Leave, Sender
from distckpt.protocol.requests import Outbox
from distckpt.protocol.takeover import Takeover, TakeoverState


class Standing(Enum):
    NEW = "new"
    JOINING = "joining"
    JOINED = "joined"
    STOPPED = "stopped"


_TABLE = {
    Standing.NEW: (Standing.JOINING, Standing.STOPPED),
    Standing.JOINING: (Standing.JOINED, Standing.STOPPED),
    Standing.JOINED: (Standing.STOPPED,),
    Standing.STOPPED: (),
}

_CLOSED = Cause("ManagerClosed", "the manager was closed")


class Agent:
    """`me` names this incarnation; `join` is its first message; `coordinator` is an address, for messages to people."""

    def __init__(self, me: Sender, join: Join, deadlines: Deadlines, coordinator: str) -> None:
        self._me = me
        self._join = join
        self._deadlines = deadlines = deadlines.for_world(join.world_size)
        self._coordinator = coordinator
        self._machine = Machine(f"agent of worker {me.worker}", _TABLE, Standing.NEW)
        self._outbox = Outbox(me)
        self._saving = Saving(self._outbox, deadlines.save_s)
        # The coordinator gives up first, with the better reason; it is given the time to say so.
        self._restoring = Restoring(self._outbox, deadlines.restore_s + deadlines.silence_s)
        self._ceilings = Ceilings(self._outbox, deadlines)
        self._keeping = Keeping(self._outbox, deadlines)
        self._takeover: Takeover | None = None
        self._end_cause = _CLOSED
        self._last_ordinal = 0
        self._step = -1
        self._started_at = 0.0
        self._heard_at: float | None = None
        self._disconnected_at: float | None = None
        self._beat_at = 0.0
        self._repeat_at = 0.0

    @property
    def standing(self) -> Standing:
        return self._machine.state

    def next_deadline(self) -> float | None:
        """When a Tick is wanted."""
        if self.standing is Standing.JOINING:
            return min(self._repeat_at, self._started_at + self._deadlines.join_s, *self._ceilings.waits)
        if self.standing is not Standing.JOINED:
            return None
        waits = [self._beat_at, *self._ceilings.waits]
        if self._saving.messages or self._restoring.message is not None or self._ceilings.messages:
            waits.append(self._repeat_at)
        for side in self._waiting:
            if side.current is not None:
                waits += (side.current.give_up_at, self._unreachable_at(side.current.asked_at))
        waits += self._keeping.waits
        if self._may_salvage_alone:
            waits.append(self._unreachable_at(self._started_at))
        return min(waits if self._takeover is None else (*waits, self._takeover.deadline))

    def handle(self, event: AgentEvent, now: float) -> list[AgentEffect]:
        """What follows from `event` at `now` (seconds, never going back)."""
        effects = self._outbox.begin(now)
        self._EVENTS[type(event)](self, event)
        busy = self._saving.current is not None
        self._keeping.settle(busy=busy, ended=self.standing is not Standing.JOINED)
        return effects

    # ------------------------------------------------------------------------------------------------------------ time

    def _start(self, _: events.Started) -> None:
        self._machine.go(Standing.JOINING, "started", self._outbox.now)
        self._started_at = self._outbox.now
        self._knock()

    def _knock(self) -> None:
        self._repeat_at = self._outbox.now + self._deadlines.resend_s
        self._outbox.tell(self._join)

    def _tick(self, _: events.Tick) -> None:
        now = self._outbox.now
        if self.standing is Standing.JOINED:
            self._check_waits(now)
            if now >= self._beat_at:
                self._beat()
            if now >= self._repeat_at:
                self._repeat()
        elif self.standing is Standing.JOINING:
            self._ceilings.check_time(now)
            if now >= self._started_at + self._deadlines.join_s:
                self._end(Cause("CoordinatorUnreachable", f"not joined: {self._silence(self._started_at)}"))
            elif now >= self._repeat_at:
                self._knock()

    def _check_waits(self, now: float) -> None:
        self._ceilings.check_time(now)
        if self._takeover is not None:
            self._takeover.tick()
            self._settle_takeover()
        if self._may_salvage_alone and now >= self._unreachable_at(self._started_at):
            self._keeping.salvage_alone()
        for side in self._waiting:
            current = side.current
            if current is not None and now >= self._unreachable_at(current.asked_at):
                cause = Cause("CoordinatorUnreachable", f"{current.what}: {self._silence(current.asked_at)}")
                if side is not self._saving or not self._take_over(cause):
                    side.give_up(cause)
            elif current is not None and now >= current.give_up_at:
                waited = f"no outcome after {now - current.asked_at:.1f} s"
                side.give_up(Cause("DeadlineExceeded", f"{current.what}: {waited}", self._me.worker))

    @property
    def _waiting(self) -> tuple[Saving | Restoring, ...]:
        """Those whose outcome the coordinator owes."""
        return (self._saving, self._restoring) if self._takeover is None else (self._restoring,)

    @property
    def _may_salvage_alone(self) -> bool:
        """Should the coordinator be gone, this worker has what it can commit without it."""
        free = self._saving.current is None and self._takeover is None
        return free and self._keeping.may_salvage_alone and self._me.worker != CHIEF

    def _take_over(self, why: Cause) -> bool:
        """Whether the save whose coordinator is lost may be committed without it: then that is under way."""
        save = self._saving.current
        if save is None or not save.captured or self._me.worker == CHIEF:
            return False
        order = TakeOver(save.ordinal, save.round, save.missing_without(self._me.worker, self._join.world_size))
        name, step = save.announce.name, save.announce.step
        has_newer = partial(self._keeping.has_newer_than, step)
        self._takeover = Takeover(order, name, why, self._outbox, self._deadlines, has_newer)
        self._takeover.tick()
        return True

    def _settle_takeover(self) -> None:
        """Ends the save if its takeover is over. After one that succeeded, this generation is sealed."""
        takeover, save = self._takeover, self._saving.current
        if takeover is None or save is None:
            return
        save.orphaned = takeover.has_acted
        if takeover.result is None:
            return
        self._takeover = None
        if isinstance(takeover.result, Cause):
            self._saving.give_up(takeover.result)
            return
        checkpoint = replace(takeover.result, files=())
        self._saving.commit(messages.Committed(save.round, save.ordinal, checkpoint))
        self._end(Cause("CoordinatorUnreachable", f"{takeover.why.message}; {checkpoint.name} is committed"))

    def _journal_seen(self, event: events.JournalSeen) -> None:
        if self._takeover is not None and self._takeover.ordinal == event.ordinal:
            self._takeover.seen(event)
            self._settle_takeover()

    def _takeover_ended(self, event: events.TakeOverEnded) -> None:
        if self._takeover is not None and self._takeover.ordinal == event.ordinal:
            self._takeover.ended(event)
            self._settle_takeover()

    def _unreachable_at(self, asked_at: float) -> float:
        """When a wait that began at `asked_at` is in vain, if nothing is heard."""
        silent = max(asked_at, self._heard_at or asked_at) + self._deadlines.silence_s
        if self._disconnected_at is None:
            return silent
        return min(silent, max(asked_at, self._disconnected_at) + self._deadlines.disconnect_s)

    def _silence(self, since: float) -> str:
        now = self._outbox.now
        heard = "never heard of" if self._heard_at is None else f"last heard of {now - self._heard_at:.1f} s ago"
        broken = "" if self._disconnected_at is None else f", disconnected {now - self._disconnected_at:.1f} s ago"
        return f"no word from the coordinator at {self._coordinator} ({heard}{broken}; waited {now - since:.1f} s)"

    def _beat(self) -> None:
        self._beat_at = self._outbox.now + self._deadlines.heartbeat_s
        self._outbox.tell(Heartbeat(self._step, kept=self._keeping.steps, parting=self._keeping.is_parting))

    def _repeat(self) -> None:
        self._repeat_at = self._outbox.now + self._deadlines.resend_s
        for message in (*self._saving.messages, self._restoring.message, *self._ceilings.messages):
            if message is not None:
                self._outbox.tell(message)

    # -------------------------------------------------------------------------------------------------- the coordinator

    def _hear(self, event: events.Heard) -> None:
        if event.envelope.receiver != self._me or self.standing is Standing.STOPPED:
            return
        if self._takeover is not None and self._takeover.state is not TakeoverState.WATCHING:
            return  # its generation is sealed, whatever it says
        self._takeover = None
        self._heard_at = self._outbox.now
        self._keeping.coordinator_lives()
        self._disconnected_at = None
        self._MESSAGES[type(event.envelope.message)](self, event.envelope.message)

    def _welcome(self, _: messages.Welcome) -> None:
        if self.standing is not Standing.JOINING:
            return
        self._machine.go(Standing.JOINED, "welcome", self._outbox.now)
        self._outbox.joined = True
        for side in (self._saving, self._restoring):
            if side.current is not None:
                side.current.asked_at = self._outbox.now
        self._beat()
        self._repeat()

    def _ended_by(self, message: messages.Rejected | messages.FencedOff) -> None:
        self._end(message.cause)

    def _alive(self, message: messages.Alive) -> None:
        self._keeping.may_go |= message.may_go

    def _salvage(self, message: messages.Salvage) -> None:
        if self._saving.current is None:
            self._keeping.salvage(message.step)

    def _committed(self, message: messages.Committed) -> None:
        self._saving.commit(message)
        self._keeping.release_until(message.checkpoint.step)

    def _abort(self, message: messages.Aborted) -> None:
        self._saving.abort(message)
        self._restoring.abort(message)

    def _connected(self, _: events.ConnectionMade) -> None:
        self._disconnected_at = None

    def _disconnected(self, _: events.ConnectionLost) -> None:
        if self._disconnected_at is None:
            self._disconnected_at = self._outbox.now

    # ----------------------------------------------------------------------------------------------------- this worker

    def _progress(self, event: events.Progress) -> None:
        self._step = event.step
        self._keeping.progress(event.step)

    def _part(self, _: events.Parting) -> None:
        self._keeping.part()
        if self.standing is Standing.JOINED and self._keeping.steps:
            self._beat()

    def _ask(self, event: events.SaveRequested | events.RestoreRequested) -> None:
        if event.ordinal <= self._last_ordinal:
            raise IllegalTransition(f"request {event.ordinal} comes after request {self._last_ordinal}")
        self._last_ordinal = event.ordinal
        side: Any = self._saving if isinstance(event, events.SaveRequested) else self._restoring
        self._keeping.requested(is_save=side is self._saving)
        if self.standing is Standing.STOPPED:
            side.refuse(event, self._end_cause)
            return
        side.request(event)
        if self.standing is Standing.JOINED:
            self._repeat()

    def _fail_locally(self, event: events.SaveFailedLocally) -> None:
        self._last_ordinal = max(self._last_ordinal, event.ordinal)
        if self.standing is not Standing.STOPPED:
            self._saving.fail_locally(event)

    def _wish(self, event: events.WishMade) -> None:
        if self.standing is Standing.STOPPED:
            self._ceilings.refuse(event, self._end_cause)
        else:
            self._ceilings.wish(event)

    def _specs_given(self, event: events.SpecsGiven) -> None:
        self._outbox.tell(messages.Described(event.round, event.specs))

    def _stop(self, event: events.Stop) -> None:
        if self.standing is Standing.STOPPED:
            return
        waiting = self._saving.current or self._restoring.current
        unfinished = None if waiting is None else Cause("ManagerClosed", f"closed before the {waiting.what} was over")
        self._end(event.cause)
        self._outbox.tell(Leave(event.cause or unfinished))

    def _end(self, cause: Cause | None) -> None:
        """Stops for good. What is outstanding is resolved."""
        self._end_cause = cause or _CLOSED
        self._takeover = None
        self._saving.give_up(self._end_cause)
        self._restoring.give_up(self._end_cause)
        self._ceilings.end(self._end_cause)
        self._keeping.end()
        self._machine.go(Standing.STOPPED, self._end_cause.message, self._outbox.now)
        self._outbox.do(Stopped(cause))

    _EVENTS: ClassVar[Mapping[type[AgentEvent], Callable[[Agent, Any], None]]] = {
        events.Started: _start,
        events.Heard: _hear,
        events.ConnectionMade: _connected,
        events.ConnectionLost: _disconnected,
        events.Progress: _progress,
        events.SaveRequested: _ask,
        events.RestoreRequested: _ask,
        events.SaveFailedLocally: _fail_locally,
        events.Kept: lambda self, event: self._keeping.keep(event.step),
        events.Parting: _part,
        events.Captured: lambda self, event: self._saving.capture(event),
        events.SpecsGiven: _specs_given,
        events.ShareWritten: lambda self, event: self._saving.share_written(event),
        events.ShareFailed: lambda self, event: self._saving.share_failed(event),
        events.JournalSeen: _journal_seen,
        events.TakeOverEnded: _takeover_ended,
        events.VerifyDone: lambda self, event: self._restoring.verify_done(event),
        events.VerifyFailed: lambda self, event: self._restoring.verify_failed(event),
        events.WishMade: _wish,
        events.CeilingSet: lambda self, event: self._ceilings.ceiling_set(event),
        events.Tick: _tick,
        events.Stop: _stop,
    }

    _MESSAGES: ClassVar[Mapping[type[CoordinatorMessage], Callable[[Agent, Any], None]]] = {
        messages.Welcome: _welcome,
        messages.Rejected: _ended_by,
        messages.FencedOff: _ended_by,
        messages.Alive: _alive,
        messages.Salvage: _salvage,
        messages.Aborted: _abort,
        messages.Decided: lambda self, message: self._saving.decide(message),
        messages.Describe: lambda self, message: self._saving.describe(message),
        messages.Committed: _committed,
        messages.Verify: lambda self, message: self._restoring.verify(message),
        messages.RestoreDecided: lambda self, message: self._restoring.decide(message),
        messages.Propose: lambda self, message: self._ceilings.propose(message),
        messages.Agreed: lambda self, message: self._ceilings.agree(message),
        messages.Withdrawn: lambda self, message: self._ceilings.withdraw(message),
        messages.WishOver: lambda self, message: self._ceilings.over(message),
    }
