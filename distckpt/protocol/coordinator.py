"""The coordinator: hosted by the chief, it admits workers, opens one round at a time, and decides its outcome.

`handle(event, now)` is the only mutator; see events.py and effects.py for what the caller owes. Promised:
- one outcome per request: who asks again is answered as before, also after the round is over;
- a commit is ordered only when every worker has announced this same save and handed in its own shard for this round;
- a round that cannot be completed is aborted on all workers at once, with the cause, and its staged files discarded;
- a commit that was ordered is ended by its outcome alone, by no timer and no lost worker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from typing import Any, Literal

from distckpt.model import CHIEF, Cause, Checkpoint
from distckpt.protocol.admission import refusal
from distckpt.protocol.deadlines import Deadlines
from distckpt.protocol.effects import CheckProbe, CoordinatorEffect, Discard, Log, Send
from distckpt.protocol.events import (
    CommitDone,
    CommitFailed,
    CoordinatorEvent,
    Disconnected,
    ProbeResult,
    Quarantined,
    Received,
    Stop,
    Superseded,
    Tick,
)
from distckpt.protocol.gathering import GiveUp, Orders
from distckpt.protocol.machine import Machine
from distckpt.protocol.membership import NEVER, Answer, Kind, Member, Membership, Presence
from distckpt.protocol.messages import (
    Aborted,
    AgentMessage,
    Alive,
    Announce,
    Committed,
    CoordinatorEnvelope,
    CoordinatorMessage,
    Described,
    Failed,
    FencedOff,
    Heartbeat,
    Join,
    Leave,
    Rejected,
    RestoreRequest,
    Sender,
    Verified,
    Welcome,
    Written,
)
from distckpt.protocol.outcomes import End, Outcomes, Verdict
from distckpt.protocol.restore_round import RestoreRound
from distckpt.protocol.save_round import SaveRound, subject_of


class Life(Enum):
    OPEN = "open"
    CLOSED = "closed"
    FENCED = "fenced"


_LIFE = {Life.OPEN: (Life.CLOSED, Life.FENCED), Life.CLOSED: (Life.FENCED,), Life.FENCED: ()}

_CLOSED = Cause("ManagerClosed", "the chief has closed its manager", CHIEF)

Round = SaveRound | RestoreRound


class Coordinator:
    """`checkpoints` are the live ones, oldest first; the join deadline counts from the first event."""

    def __init__(
        self,
        job: str,
        generation: int,
        world_size: int,
        deadlines: Deadlines,
        checkpoints: Sequence[Checkpoint],
    ) -> None:
        self._job = job
        self._generation = generation
        self._deadlines = deadlines
        self._members = Membership(world_size, deadlines)
        self._checkpoints = list(checkpoints)
        self._life = Machine(f"coordinator of generation {generation}", _LIFE, Life.OPEN)
        self._join_until: float | None = None
        self._round: Round | None = None
        self._rounds = 0
        self._outcomes = Outcomes()
        self._fenced_off: FencedOff | None = None
        self._now = 0.0
        self._out: list[CoordinatorEffect] = []

    # --------------------------------------------------------------------------------------------------------- reading

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """The live ones, oldest first."""
        return tuple(self._checkpoints)

    @property
    def present(self) -> tuple[int, ...]:
        """The workers that have joined, and have not left or been lost. The chief stays until the others are gone."""
        return tuple(member.worker for member in self._members if member.presence is Presence.PRESENT)

    @property
    def committing(self) -> bool:
        """A Commit has been ordered and has no outcome yet."""
        return self._round is not None and self._round.is_committing

    def next_deadline(self) -> float | None:
        """When a Tick is wanted."""
        round_until = self._round.deadline if self._round is not None else None
        until = min(self._members.check_at, NEVER if round_until is None else round_until)
        return None if until == NEVER else until

    # -------------------------------------------------------------------------------------------------------- handling

    def handle(self, event: CoordinatorEvent, now: float) -> list[CoordinatorEffect]:
        """What follows from `event` at `now` (seconds, never going back)."""
        self._now = now
        if self._join_until is None:
            self._join_until = now + self._deadlines.join_s
        self._out = out = list[CoordinatorEffect]()
        _EVENTS[type(event)](self, event)
        return out

    def _received(self, event: Received) -> None:
        sender, message = event.envelope.sender, event.envelope.message
        cause = refusal(sender, message, self._job, self._generation, self._members)
        if cause is not None:
            self._refuse(sender, message, cause)
        elif self._fenced_off is not None:
            self._send(sender, self._fenced_off)
        elif isinstance(message, Join):
            self._join(sender, message)
        else:
            member = self._members.find(sender.worker, sender.incarnation)
            if member is not None:
                self._act_on(member, message)

    def _refuse(self, sender: Sender, message: AgentMessage, cause: Cause) -> None:
        if isinstance(message, Leave):
            return
        if isinstance(message, Written) and sender.generation == self._generation:
            self._discard_late(message)
        self._send(sender, Rejected(cause))

    def _act_on(self, member: Member, message: AgentMessage) -> None:
        self._members.heard(member, self._now)
        if member.presence is Presence.PRESENT or isinstance(message, Leave):
            _MESSAGES[type(message)](self, member, message)
        elif isinstance(message, Written):
            self._discard_late(message)

    def _tick(self, _: Tick) -> None:
        for member in self._members.take_lost(self._now):
            self._lost(member, "is lost")
        current = self._round
        if current is not None:
            self._advance(lambda: current.check_time(self._now))

    # ------------------------------------------------------------------------------------------------------ membership

    def _join(self, sender: Sender, message: Join) -> None:
        member = self._members.find(sender.worker, sender.incarnation)
        if member is None:
            old = self._members.admit(sender.worker, sender.incarnation, message, self._now)
            if old is not None:
                self._lost(old, f"has been started again (pid {message.pid})")
            self._out.append(CheckProbe(sender.worker, sender.incarnation, message.probe))
            return
        self._members.heard(member, self._now)
        if member.presence is Presence.PRESENT:
            self._welcome(member)

    def _probe_result(self, event: ProbeResult) -> None:
        member = self._members.find(event.worker, event.incarnation)
        if member is None or member.presence is not Presence.PROBING:
            return
        if event.fault is None:
            self._members.accept(member, self._now)
            self._log("info", f"{member.describe(self._now)} has joined")
            self._welcome(member)
            return
        who = f"worker {member.worker} ({member.join.address or member.join.host})"
        text = f"{who} does not see the directory that the chief sees: {event.fault}"
        self._say(member, Rejected(Cause("DirectoryMismatch", text, member.worker)))
        self._members.expel(member, "its probe cannot be read", self._now)

    def _welcome(self, member: Member) -> None:
        live = tuple(replace(checkpoint, files=()) for checkpoint in self._checkpoints)
        self._say(member, Welcome(self._generation, live))

    def _disconnected(self, event: Disconnected) -> None:
        member = self._members.find(event.worker, event.incarnation)
        if member is not None:
            self._members.disconnected(member, self._now)

    def _heartbeat(self, member: Member, message: Heartbeat) -> None:
        member.step = message.step
        self._say(member, Alive())

    def _leave(self, member: Member, message: Leave) -> None:
        if member.presence is Presence.LEFT:
            return
        member.left = message.cause
        member.machine.go(Presence.LEFT, "it said so", self._now)
        self._lost(member, "")

    def _lost(self, member: Member, why: str) -> None:
        """`member` is not there any more: a round that is not complete is over."""
        text = f"{member.describe(self._now)} {why}".rstrip()
        self._log("warning" if self._round is not None else "info", text)
        if self._round is not None and not self._round.is_committing:
            self._abort(Cause("WorkerLost", f"{self._round.gathering.what}: {text}", member.worker))

    # -------------------------------------------------------------------------------------------------------- requests

    def _announce(self, member: Member, message: Announce) -> None:
        member.doing = f"announced the save of step {message.step}"
        if not self._is_welcome(member, message.ordinal, "save", subject_of(message)):
            return
        if self._round is None:
            self._rounds += 1
            place = (self._members, self._deadlines, self._now, self._join_until or self._now)
            self._round = SaveRound(self._rounds, message, *place)
        current = self._round
        if isinstance(current, SaveRound):
            self._advance(lambda: current.announce(member, message, self._now))

    def _restore_request(self, member: Member, message: RestoreRequest) -> None:
        member.doing = f"asked to restore {message.selector}"
        if not self._is_welcome(member, message.ordinal, "restore", f"restore {message.selector}"):
            return
        if self._round is None:
            self._rounds += 1
            place = (self._members, self._deadlines, self._now, self._join_until or self._now)
            self._round = RestoreRound(self._rounds, message, *place)
        current = self._round
        if isinstance(current, RestoreRound):
            self._advance(lambda: current.request(member, message, self._checkpoints, self._now))

    def _is_welcome(self, member: Member, ordinal: int, kind: Kind, subject: str) -> bool:
        """True if the request may come to the open round, or open one. False: it was answered, or must be repeated."""
        if self._is_settled(member, ordinal, kind):
            return False
        current = self._round
        if current is not None and current.kind != kind:
            return False
        if current is not None and current.ordinals.get(member.worker, ordinal) < ordinal:
            if current.is_committing:
                return False
            text = f"{current.gathering.what}: worker {member.worker} gave it up and asks for another"
            self._abort(Cause("SaveAborted", text, member.worker))
            current = None
        if current is not None and (member.worker in current.ordinals or subject in current.subjects):
            return True
        return not self._tell_verdict(member, ordinal, kind, subject)

    def _is_settled(self, member: Member, ordinal: int, kind: Kind) -> bool:
        """True if this request was decided; the answer is given again if the worker can still be waiting for it."""
        answer = member.answers.get(kind)
        if answer is not None and answer.ordinal == ordinal:
            self._say(member, answer)
        return ordinal <= member.last_ordinal(kind)

    def _tell_verdict(self, member: Member, ordinal: int, kind: Kind, subject: str) -> bool:
        """True if the request came too late to a round that was given up, or after the end, and was told so."""
        verdict = self._outcomes.take_verdict(member.worker, subject, self._now)
        if verdict is not None:
            self._answer(member, kind, Aborted(verdict.round, ordinal, verdict.cause))
        elif self._life.state is Life.CLOSED:
            self._answer(member, kind, Aborted(0, ordinal, _CLOSED))
        return verdict is not None or self._life.state is Life.CLOSED

    # ----------------------------------------------------------------------------------------------------- within a round

    def _described(self, member: Member, message: Described) -> None:
        current = self._save_round(message.round)
        if current is not None:
            self._advance(lambda: current.described(member.worker, message.specs))

    def _written(self, member: Member, message: Written) -> None:
        current = self._save_round(message.round)
        if current is not None:
            member.doing = f"wrote its share of step {current.step}"
            self._advance(lambda: current.written(member.worker, message.shard, self._now))
            return
        answer = member.answers.get("save")
        if answer is not None and answer.round == message.round:
            self._say(member, answer)
        self._discard_late(message)

    def _discard_late(self, message: Written) -> None:
        if self._outcomes.was_aborted(message.round):
            self._out.append(Discard(message.round, (message.shard.handle,)))

    def _verified(self, member: Member, message: Verified) -> None:
        current = self._restore_round(message.round)
        if current is not None:
            member.doing = f"verified its part of {message.name}"
            self._advance(lambda: current.verified(member.worker, message, self._now))

    def _quarantined(self, event: Quarantined) -> None:
        self._checkpoints = [c for c in self._checkpoints if c.name != event.name]
        current = self._restore_round(event.round)
        if current is not None:
            self._advance(lambda: current.quarantined(event.name, self._now))

    def _save_round(self, number: int) -> SaveRound | None:
        current = self._round
        return current if isinstance(current, SaveRound) and current.number == number else None

    def _restore_round(self, number: int) -> RestoreRound | None:
        current = self._round
        return current if isinstance(current, RestoreRound) and current.number == number else None

    def _advance(self, act: Callable[[], Orders]) -> None:
        """Lets the open round act, aborts it if it gives up, and ends it if it is decided."""
        try:
            orders = act()
        except GiveUp as given_up:
            self._abort(given_up.cause)
            return
        for order in orders:
            if isinstance(order, tuple):
                self._say(*order)
            else:
                self._out.append(order)
        current = self._round
        if isinstance(current, RestoreRound) and current.decision is not None:
            self._end(current, "committed", current.decision)

    # ------------------------------------------------------------------------------------------------- the end of a round

    def _commit_done(self, event: CommitDone) -> None:
        current = self._save_round(event.round)
        if current is None:
            return
        gone = {*event.retired, event.checkpoint.name}
        self._checkpoints = [c for c in self._checkpoints if c.name not in gone] + [event.checkpoint]
        self._log("info", f"round {current.number}: {event.checkpoint.name} is committed")
        shown = replace(event.checkpoint, files=())
        committed = {w: Committed(current.number, o, shown, event.retired) for w, o in current.ordinals.items()}
        self._end(current, "committed", committed)

    def _commit_failed(self, event: CommitFailed) -> None:
        current = self._save_round(event.round)
        if current is None:
            return
        if not event.fatal:
            self._abort(event.cause)
            return
        self._end(current, "unknown", _aborted(current, event.cause))
        self._fence(FencedOff(self._generation, event.cause))

    def _failed(self, member: Member, message: Failed) -> None:
        """A worker cannot do its part of a round, or (`round` is 0) not even come to it."""
        answer = member.answer_to(message.ordinal)
        if answer is not None:
            self._say(member, answer)
        if answer is not None or message.ordinal < member.last_ordinal("save"):
            return
        current = self._round
        if current is not None and _concerns(current, member.worker, message):
            if current.is_committing:
                return
            self._abort(message.cause)
        elif message.round == 0:
            others = frozenset(range(self._members.world_size)) - {member.worker}
            self._owe(0, message.cause, frozenset(), others)
        if member.answer_to(message.ordinal) is None:
            self._answer(member, "save", Aborted(message.round, message.ordinal, message.cause))

    def _abort(self, cause: Cause) -> None:
        current = self._round
        if current is None:
            return
        self._log("warning", f"round {current.number} is aborted: {cause.kind}: {cause.message}")
        self._owe(current.number, cause, current.subjects, frozenset(current.gathering.absent))
        self._end(current, "aborted", _aborted(current, cause))
        if current.handles:
            self._out.append(Discard(current.number, current.handles))

    def _owe(self, number: int, cause: Cause, subjects: frozenset[str], owed: frozenset[int]) -> None:
        if owed:
            expires_at = self._now + self._deadlines.announce_s
            self._outcomes.owe(Verdict(number, cause, subjects, owed, expires_at))

    def _end(self, current: Round, end: End, answers: Mapping[int, Answer]) -> None:
        current.end(end, self._now)
        self._outcomes.record(current.number, end)
        self._round = None
        for worker, answer in answers.items():
            self._answer(current.gathering.parties[worker], current.kind, answer)

    # ------------------------------------------------------------------------------------------- the end of the coordinator

    def _superseded(self, event: Superseded) -> None:
        """Fenced: nothing is touched any more. A commit that was ordered still has its outcome."""
        if self._fenced_off is None:
            self._fence(FencedOff(event.generation, event.cause))

    def _fence(self, message: FencedOff) -> None:
        self._fenced_off = message
        self._life.go(Life.FENCED, message.cause.message, self._now)
        self._log("error", f"{message.cause.kind}: {message.cause.message}")
        current = self._round
        if current is not None and not current.is_committing:
            self._end(current, "unknown", _aborted(current, message.cause))
        for member in self._members:
            self._say(member, message)

    def _stop(self, _: Stop) -> None:
        if self._life.state is not Life.OPEN:
            return
        self._life.go(Life.CLOSED, "the manager is closed", self._now)
        if not self.committing:
            self._abort(_CLOSED)

    # --------------------------------------------------------------------------------------------------------- speaking

    def _answer(self, member: Member, kind: Kind, answer: Answer) -> None:
        """Says the outcome of a request, and keeps it for whoever asks again."""
        member.answers[kind] = answer
        self._say(member, answer)

    def _say(self, member: Member, message: CoordinatorMessage) -> None:
        self._send(Sender(self._job, self._generation, member.worker, member.incarnation), message)

    def _send(self, receiver: Sender, message: CoordinatorMessage) -> None:
        self._out.append(Send(CoordinatorEnvelope(receiver, message)))

    def _log(self, level: Literal["info", "warning", "error"], text: str) -> None:
        self._out.append(Log(level, text))


def _aborted(current: Round, cause: Cause) -> dict[int, Answer]:
    return {worker: Aborted(current.number, ordinal, cause) for worker, ordinal in current.ordinals.items()}


def _concerns(current: Round, worker: int, message: Failed) -> bool:
    """True if `message` is about this round: by its number, by the request, or (a save) by not coming to it."""
    if message.round:
        return message.round == current.number
    absent_from_save = current.kind == "save" and current.is_gathering and worker not in current.ordinals
    return absent_from_save or current.ordinals.get(worker) == message.ordinal


_EVENTS: dict[type[CoordinatorEvent], Callable[[Coordinator, Any], None]] = {
    Received: Coordinator._received,
    Disconnected: Coordinator._disconnected,
    ProbeResult: Coordinator._probe_result,
    CommitDone: Coordinator._commit_done,
    CommitFailed: Coordinator._commit_failed,
    Quarantined: Coordinator._quarantined,
    Superseded: Coordinator._superseded,
    Tick: Coordinator._tick,
    Stop: Coordinator._stop,
}

_MESSAGES: dict[type[AgentMessage], Callable[[Coordinator, Any, Any], None]] = {
    Heartbeat: Coordinator._heartbeat,
    Announce: Coordinator._announce,
    Described: Coordinator._described,
    Written: Coordinator._written,
    Failed: Coordinator._failed,
    RestoreRequest: Coordinator._restore_request,
    Verified: Coordinator._verified,
    Leave: Coordinator._leave,
}
