"""The coordinator: hosted by the chief, it admits workers, opens one round at a time, and decides its outcome.

`handle(event, now)` is the only mutator; see events.py and effects.py for what the caller owes. Promised:
- one outcome per request: who asks again is answered as before, also after the round is over;
- a commit is ordered only when every worker that is not lost has announced this same save, and shards that hold every
  tensor once have been handed in for this round by those whose they are to write;
- a round that cannot be completed is aborted on all workers at once, with the cause, and its staged files discarded;
- a commit that was ordered is ended by its outcome alone, by no timer and no lost worker;
- every wish for a save that no worker foresaw has one outcome (see proposal.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from typing import Any, ClassVar

from distckpt.model import Cause, Checkpoint
from distckpt.protocol import events, messages
from distckpt.protocol.admission import refusal
from distckpt.protocol.cross_check import CrossCheck
from distckpt.protocol.deadlines import Deadlines
from distckpt.protocol.desk import Desk
from distckpt.protocol.effects import CheckProbe, CoordinatorEffect
from distckpt.protocol.events import CoordinatorEvent
from distckpt.protocol.machine import Machine
from distckpt.protocol.membership import NEVER, Member, Membership, Presence
from distckpt.protocol.messages import AgentMessage, Alive, FencedOff, Join, Leave, Rejected, Sender, Welcome, Written
from distckpt.protocol.proposal import Proposals
from distckpt.protocol.rounds import CLOSED, Round, Rounds
from distckpt.protocol.salvage import Salvages
from distckpt.protocol.save_round import SaveRound


class Life(Enum):
    OPEN = "open"
    CLOSED = "closed"
    FENCED = "fenced"


_TABLE = {Life.OPEN: (Life.CLOSED, Life.FENCED), Life.CLOSED: (Life.FENCED,), Life.FENCED: ()}


class Coordinator:
    """`checkpoints` are the live ones, oldest first; `set_aside` the names of those that were found corrupt before;
    `cross_check`: what is done where workers do not hold the same.

    The join deadline counts from the first event.
    """

    def __init__(
        self,
        job: str,
        generation: int,
        world_size: int,
        deadlines: Deadlines,
        checkpoints: Sequence[Checkpoint],
        *,
        set_aside: Sequence[str] = (),
        cross_check: CrossCheck = "warn",
    ) -> None:
        self._deadlines = deadlines = deadlines.for_world(world_size)
        self._desk = Desk(job, generation)
        self._members = Membership(world_size, deadlines)
        self._rounds = Rounds(self._desk, self._members, deadlines, checkpoints, set_aside, cross_check)
        self._proposals = Proposals(self._desk, self._members, deadlines, self._has_a_round)
        self._rounds.on_save_end = self._proposals.save_ended
        self._salvages = Salvages(self._desk, self._members, self._rounds)
        self._life = Machine(f"coordinator of generation {generation}", _TABLE, Life.OPEN)
        self._started = False
        self._handled_at = 0.0
        self._fenced_off: FencedOff | None = None

    def _has_a_round(self) -> bool:  # a method, for whoever copies this object: tests/model_checking does
        return self._rounds.current is not None

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """The live ones, oldest first."""
        return tuple(self._rounds.checkpoints)

    @property
    def present(self) -> tuple[int, ...]:
        """The workers that have joined, and have not left or been lost. The chief stays until the others are gone."""
        return self._members.those(Presence.PRESENT)

    @property
    def members(self) -> Membership:
        """Who takes part, for those who watch: to be read, not changed."""
        return self._members

    @property
    def round(self) -> Round | None:
        """The open round, for those who watch: to be read, not changed."""
        return self._rounds.current

    @property
    def committing(self) -> bool:
        """A Commit has been ordered and has no outcome yet."""
        return self._rounds.committing

    def next_deadline(self) -> float | None:
        """When a Tick is wanted."""
        current = self._rounds.current
        round_until = None if current is None else current.deadline
        until = min(self._members.check_at, NEVER if round_until is None else round_until, self._proposals.deadline)
        return None if until == NEVER else until

    def handle(self, event: CoordinatorEvent, now: float) -> list[CoordinatorEffect]:
        """What follows from `event` at `now` (seconds, never going back)."""
        effects = self._desk.begin(now)
        if not self._started:
            self._started = True
            self._rounds.join_until = now + self._deadlines.join_s
        elif now - self._handled_at > self._deadlines.silence_s / 2:
            self._members.bear_with(now)  # the chief's own agent beats all the time: it is this process that was frozen
        self._handled_at = now
        self._EVENTS[type(event)](self, event)
        self._proposals.advance()
        if self._life.state is Life.OPEN:
            self._salvages.advance()
        return effects

    # -------------------------------------------------------------------------------------------------------- messages

    def _receive(self, event: events.Received) -> None:
        sender, message = event.envelope.sender, event.envelope.message
        cause = refusal(sender, message, self._desk.job, self._desk.generation, self._members)
        if cause is not None:
            self._refuse(sender, message, cause)
        elif self._fenced_off is not None:
            self._desk.send(sender, self._fenced_off)
        elif isinstance(message, Join):
            self._join(sender, message)
        else:
            member = self._members.find(sender.worker, sender.incarnation)
            if member is not None:
                self._act_on(member, message)

    def _refuse(self, sender: Sender, message: AgentMessage, cause: Cause) -> None:
        if isinstance(message, Leave):
            return
        if isinstance(message, Written) and sender.generation == self._desk.generation:
            self._rounds.discard_late(message)
        self._desk.send(sender, Rejected(cause))

    def _act_on(self, member: Member, message: AgentMessage) -> None:
        self._members.heard(member, self._desk.now)
        if member.presence is Presence.PRESENT or isinstance(message, Leave):
            self._MESSAGES[type(message)](self, member, message)
        elif isinstance(message, Written):
            self._rounds.discard_late(message)

    # ------------------------------------------------------------------------------------------------------ membership

    def _join(self, sender: Sender, message: Join) -> None:
        member = self._members.find(sender.worker, sender.incarnation)
        if member is None:
            old = self._members.admit(sender.worker, sender.incarnation, message, self._desk.now)
            if old is not None:
                self._lost(old, f"has been started again (pid {message.pid})")
            self._desk.do(CheckProbe(sender.worker, sender.incarnation, message.probe))
            return
        self._members.heard(member, self._desk.now)
        if member.presence is Presence.PRESENT:
            self._welcome(member)

    def _probe_result(self, event: events.ProbeResult) -> None:
        member = self._members.find(event.worker, event.incarnation)
        if member is None or member.presence is not Presence.PROBING:
            return
        if event.fault is None:
            self._members.accept(member, self._desk.now)
            self._desk.log("info", f"{member.describe(self._desk.now)} has joined")
            self._welcome(member)
            return
        who = f"worker {member.worker} ({member.join.address or member.join.host})"
        text = f"{who} does not see the directory that the chief sees: {event.fault}"
        self._desk.say(member, Rejected(Cause("DirectoryMismatch", text, member.worker)))
        self._members.expel(member, "its probe cannot be read", self._desk.now)

    def _welcome(self, member: Member) -> None:
        live = tuple(replace(checkpoint, files=()) for checkpoint in self._rounds.checkpoints)
        self._desk.say(member, Welcome(self._desk.generation, live))

    def _disconnected(self, event: events.Disconnected) -> None:
        member = self._members.find(event.worker, event.incarnation)
        if member is not None:
            self._members.disconnected(member, self._desk.now)

    def _heartbeat(self, member: Member, message: messages.Heartbeat) -> None:
        member.step = message.step
        self._salvages.told(member, message.kept, is_parting=message.parting)
        self._desk.say(member, Alive(may_go=message.parting and self._salvages.all_may_go))

    def _announce(self, member: Member, message: messages.Announce) -> None:
        self._rounds.announce(member, message)
        current = self._rounds.current
        if isinstance(current, SaveRound):
            self._proposals.save_announced(current.step)

    def _fail(self, member: Member, message: messages.Failed) -> None:
        self._rounds.fail(member, message)
        if message.round == 0:
            self._proposals.failed(message.cause)

    def _leave(self, member: Member, message: Leave) -> None:
        if member.presence is Presence.LEFT:
            return
        member.left = message.cause
        self._members.leave(member, self._desk.now)
        self._lost(member, "")

    def _lost(self, member: Member, why: str) -> None:
        """`member` is not there any more."""
        text = f"{member.describe(self._desk.now)} {why}".rstrip()
        self._proposals.gone(member, text)
        current = self._rounds.current
        self._desk.log("info" if current is None else "warning", text)
        if current is not None and not current.is_committing:
            self._rounds.lose(member, Cause("WorkerLost", f"{current.gathering.what}: {text}", member.worker))

    # ------------------------------------------------------------------------------------------------ time and the end

    def _tick(self, _: events.Tick) -> None:
        for member in self._members.take_lost(self._desk.now):
            self._salvages.lost()
            self._lost(member, "is lost")
        self._rounds.check_time()

    def _commit_failed(self, event: events.CommitFailed) -> None:
        self._rounds.commit_failed(event)
        if event.fatal:
            self._fence(FencedOff(self._desk.generation, event.cause))

    def _superseded(self, event: events.Superseded) -> None:
        self._fence(FencedOff(event.generation, event.cause))

    def _fence(self, message: FencedOff) -> None:
        """Nothing is touched any more. A commit that was ordered still has its outcome."""
        if self._fenced_off is not None:
            return
        self._fenced_off = message
        self._life.go(Life.FENCED, message.cause.message, self._desk.now)
        self._desk.log("error", f"{message.cause.kind}: {message.cause.message}")
        self._rounds.abandon(message.cause)
        self._proposals.close(message.cause)
        for member in self._members:
            self._desk.say(member, message)

    def _stop(self, _: events.Stop) -> None:
        if self._life.state is not Life.OPEN:
            return
        self._life.go(Life.CLOSED, "the manager is closed", self._desk.now)
        self._rounds.closed = True
        if not self._rounds.committing:
            self._rounds.abort(CLOSED)
        self._proposals.close(CLOSED)

    _EVENTS: ClassVar[Mapping[type[CoordinatorEvent], Callable[[Coordinator, Any], None]]] = {
        events.Received: _receive,
        events.Disconnected: _disconnected,
        events.ProbeResult: _probe_result,
        events.CommitDone: lambda self, event: self._rounds.commit_done(event),
        events.CommitFailed: _commit_failed,
        events.Quarantined: lambda self, event: self._rounds.quarantined(event),
        events.Superseded: _superseded,
        events.ToolWishes: lambda self, event: self._proposals.want(None, event.number, event.wish),
        events.Tick: _tick,
        events.Stop: _stop,
    }

    _MESSAGES: ClassVar[Mapping[type[AgentMessage], Callable[[Coordinator, Member, Any], None]]] = {
        messages.Heartbeat: _heartbeat,
        messages.Announce: _announce,
        messages.Described: lambda self, member, message: self._rounds.describe(member, message),
        messages.Written: lambda self, member, message: self._rounds.write(member, message),
        messages.NotWritten: lambda self, member, message: self._rounds.not_written(member, message),
        messages.Failed: _fail,
        messages.RestoreRequest: lambda self, member, message: self._rounds.restore(member, message),
        messages.Verified: lambda self, member, message: self._rounds.verify(member, message),
        messages.Leave: _leave,
        messages.SaveWanted: lambda self, member, said: self._proposals.want(member, said.number, said.wish),
        messages.Ceiling: lambda self, member, message: self._proposals.ceiling(member, message),
    }
