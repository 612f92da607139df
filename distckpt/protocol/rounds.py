"""The coordinator's rounds: at most one is open, every request gets one outcome, and who asks again gets the same.

A request is known by its member and ordinal, a round by its number. What is said of a round that is over is answered
from memory or dropped; it never reaches the open round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from distckpt.model import CHIEF, Cause, Checkpoint
from distckpt.protocol.cross_check import CrossCheck
from distckpt.protocol.deadlines import Deadlines
from distckpt.protocol.desk import Desk
from distckpt.protocol.effects import Discard
from distckpt.protocol.events import CommitDone, CommitFailed, Quarantined
from distckpt.protocol.gathering import Gathering, GiveUp, Orders
from distckpt.protocol.membership import Answer, Kind, Member, Membership
from distckpt.protocol.messages import (
    Aborted,
    Announce,
    Committed,
    Described,
    Failed,
    NotWritten,
    RestoreDecided,
    RestoreRequest,
    Verified,
    Written,
)
from distckpt.protocol.outcomes import End, Outcomes, Verdict
from distckpt.protocol.restore_round import RestoreRound
from distckpt.protocol.save_round import SaveRound, subject_of
from distckpt.protocol.speeds import Speeds

Round = SaveRound | RestoreRound

NOT_SALVAGED = Cause("SaveAborted", "nothing of this step is to be salvaged (any more)")
CLOSED = Cause("ManagerClosed", "the chief has closed its manager", CHIEF)


class Rounds:
    """`current` is the open round; `checkpoints` the live ones, oldest first; `closed`: no round is opened any more.

    `salvaged`: the step whose snapshots are to be committed, where a worker is lost; None when that is over.
    `on_save_end` hears the step of each save that is over, what came of it, and how many seconds it took.
    """

    def __init__(
        self,
        desk: Desk,
        members: Membership,
        deadlines: Deadlines,
        checkpoints: Sequence[Checkpoint],
        set_aside: Sequence[str],
        cross_check: CrossCheck,
    ) -> None:
        self.current: Round | None = None
        self.checkpoints = list(checkpoints)
        self._set_aside = list(set_aside)
        self.closed = False
        self.salvaged: int | None = None
        self.join_until = 0.0
        self._desk = desk
        self._members = members
        self._deadlines = deadlines
        self._cross_check = cross_check
        self._speeds = Speeds(members.world_size)
        self.on_save_end: Callable[[int, Checkpoint | Cause, float], None] = lambda *_: None
        self._numbers = 0
        self._outcomes = Outcomes()

    @property
    def committing(self) -> bool:
        return self.current is not None and self.current.is_committing

    # -------------------------------------------------------------------------------------------------------- requests

    def announce(self, member: Member, message: Announce) -> None:
        member.doing = f"announced the save of step {message.step}"
        if not self._is_welcome(member, message.ordinal, "save", subject_of(message)):
            return
        if not message.salvage:
            self._make_way(message)
        elif not self._salvages(message):
            self._desk.answer(member, "save", Aborted(0, message.ordinal, NOT_SALVAGED))
            return
        if isinstance(self.current, SaveRound) and not self.current.may_come(member, message):
            return  # it will be repeated, and comes to the next round
        if self.current is None:
            self._numbers += 1
            gathering = self._gathering(f"{'salvage' if message.salvage else 'save'} of step {message.step}")
            self.current = SaveRound(
                self._numbers, message, gathering, self._deadlines, self._speeds, self._cross_check
            )
        current = self.current
        if isinstance(current, SaveRound):
            self._advance(lambda: current.announce(member, message, self._desk.now))

    def _salvages(self, message: Announce) -> bool:
        """Whether `message`, an announcement of what was kept, is of what is to be salvaged."""
        if isinstance(self.current, SaveRound):
            return subject_of(message) in self.current.subjects
        return message.step == self.salvaged

    def _make_way(self, message: Announce) -> None:
        """A save that the training asks for does not wait for others to come to a salvage."""
        current = self.current
        if not isinstance(current, SaveRound) or not (current.is_salvage and current.is_gathering):
            return
        if subject_of(message) not in current.subjects:
            self.abort(Cause("SaveAborted", f"{current.gathering.what}: the training goes on, and saves"))

    def restore(self, member: Member, message: RestoreRequest) -> None:
        member.doing = f"asked to restore {message.selector}"
        if not self._is_welcome(member, message.ordinal, "restore", f"restore {message.selector}"):
            return
        if self.current is None:
            self._numbers += 1
            gathering = self._gathering(f"restore of {message.selector}")
            self.current = RestoreRound(self._numbers, message, gathering, self._deadlines)
        current = self.current
        if isinstance(current, RestoreRound):
            self._advance(lambda: current.request(member, message, self.checkpoints, self._set_aside, self._desk.now))

    def _gathering(self, what: str) -> Gathering:
        return Gathering(what, self._members, self._desk.now, self._deadlines.announce_s, self.join_until)

    def _is_welcome(self, member: Member, ordinal: int, kind: Kind, subject: str) -> bool:
        """True if the request may come to the open round, or open one. False: it was answered, or will be repeated."""
        if self._is_settled(member, ordinal, kind) or (self.current is not None and self.current.kind != kind):
            return False
        if self.current is not None and _asked_before(self.current, member, ordinal):
            if self.current.is_committing:
                return False
            text = f"{self.current.gathering.what}: worker {member.worker} gave it up and asks for another"
            self.give_up(member, Cause("SaveAborted", text, member.worker))
            if self.current is not None:
                return False
        current = self.current
        if current is not None and (member.worker in current.ordinals or subject in current.subjects):
            return True
        return not self._tell_verdict(member, ordinal, kind, subject)

    def _is_settled(self, member: Member, ordinal: int, kind: Kind) -> bool:
        """True if this request has its outcome; it is told again if the worker can still be waiting for it."""
        answer = member.answers.get(kind)
        if answer is not None and answer.ordinal == ordinal:
            self._desk.say(member, answer)
        return ordinal <= member.last_ordinal(kind)

    def _tell_verdict(self, member: Member, ordinal: int, kind: Kind, subject: str) -> bool:
        """True if the request came too late to a round that was given up, or after the end, and was told so."""
        verdict = self._outcomes.take_verdict(member.worker, subject, self._desk.now)
        if verdict is not None:
            self._desk.answer(member, kind, verdict.answer(ordinal))
        elif self.closed:
            self._desk.answer(member, kind, Aborted(0, ordinal, CLOSED))
        return verdict is not None or self.closed

    # -------------------------------------------------------------------------------------------------- within a round

    def describe(self, member: Member, message: Described) -> None:
        current = self._open_save(message.round)
        if current is not None:
            self._advance(lambda: current.described(member.worker, message.specs))

    def write(self, member: Member, message: Written) -> None:
        current = self._open_save(message.round)
        if current is not None:
            member.doing = f"wrote its share of step {current.step}"
            shard, check = message.shard, message.check
            self._advance(lambda: current.written(member.worker, message.share, shard, check, self._desk.now))
            return
        self._tell_end(member, message.round)
        self.discard_late(message)

    def not_written(self, member: Member, message: NotWritten) -> None:
        current = self._open_save(message.round)
        if current is not None:
            member.doing = f"could not write its share of step {current.step}"
            self._advance(lambda: current.not_written(member.worker, message.share, message.cause, self._desk.now))
            return
        self._tell_end(member, message.round)

    def _tell_end(self, member: Member, number: int) -> None:
        """Says the outcome of round `number` again, if it was the member's last."""
        answer = member.answers.get("save")
        if answer is not None and answer.round == number:
            self._desk.say(member, answer)

    def discard_late(self, message: Written) -> None:
        """Removes a shard that was handed in after its round was aborted, or committed without it."""
        self._discard(
            message.round, [each for each in message.shard.handles if self._outcomes.is_useless(message.round, each)]
        )

    def _discard(self, number: int, handles: Sequence[str]) -> None:
        staged = tuple(handle for handle in handles if handle)  # an empty shard has no file
        if staged:
            self._desk.do(Discard(number, staged))

    def verify(self, member: Member, message: Verified) -> None:
        current = self._open_restore(message.round)
        if current is not None:
            member.doing = f"verified its part of {message.name}"
            self._advance(lambda: current.verified(member.worker, message, self._desk.now))

    def quarantined(self, event: Quarantined) -> None:
        self.checkpoints = [c for c in self.checkpoints if c.name != event.name]
        self._set_aside.append(event.name)
        current = self._open_restore(event.round)
        if current is not None:
            self._advance(lambda: current.quarantined(event.name, self._desk.now))

    def check_time(self) -> None:
        current = self.current
        if current is not None:
            self._advance(lambda: current.check_time(self._desk.now))

    def _open_save(self, number: int) -> SaveRound | None:
        current = self.current
        return current if isinstance(current, SaveRound) and current.number == number else None

    def _open_restore(self, number: int) -> RestoreRound | None:
        current = self.current
        return current if isinstance(current, RestoreRound) and current.number == number else None

    def _advance(self, act: Callable[[], Orders]) -> None:
        """Lets the open round act, aborts it if it gives up, and ends it if it is decided."""
        try:
            orders = act()
        except GiveUp as given_up:
            self.abort(given_up.cause)
            return
        for order in orders:
            if isinstance(order, tuple):
                self._desk.say(*order)
            else:
                self._desk.do(order)
        current = self.current
        if isinstance(current, RestoreRound) and current.decision is not None:
            self._end(current, "committed", current.decision)

    # ---------------------------------------------------------------------------------------------- the end of a round

    def commit_done(self, event: CommitDone) -> None:
        current = self._open_save(event.round)
        if current is None:
            return
        gone = {*event.retired, event.checkpoint.name}
        left = [c for c in self.checkpoints if c.name not in gone]
        left = [replace(c, preserved=True) if c.name in event.preserved else c for c in left]
        self.checkpoints = [*left, event.checkpoint]
        self._desk.log("info", f"round {current.number}: {event.checkpoint.name} is committed")
        shown = replace(event.checkpoint, files=())
        inactive = event.retired + event.preserved
        told = {o: Committed(current.number, o, shown, inactive) for o in set(current.ordinals.values())}
        committed = {worker: told[ordinal] for worker, ordinal in current.ordinals.items()}
        without = Committed(current.number, 0, shown, inactive)
        self._owe(current.number, without, current.subjects, frozenset(current.gathering.absent))
        self._end(current, "committed", committed)

    def commit_failed(self, event: CommitFailed) -> None:
        """A failure that is not fatal aborts the round; after a fatal one nobody knows, and nothing is touched."""
        current = self._open_save(event.round)
        if current is None:
            return
        if event.fatal:
            self._end(current, "unknown", _aborted(current, event.cause))
        else:
            self.abort(event.cause)

    def fail(self, member: Member, message: Failed) -> None:
        """A worker cannot do its part of a round, or (`round` is 0) not even come to it."""
        answer = member.answer_to(message.ordinal)
        if answer is not None:
            self._desk.say(member, answer)
        if answer is not None or message.ordinal < member.last_ordinal("save") or self.committing:
            return
        if self.current is not None and _concerns(self.current, member, message):
            self.give_up(member, message.cause)
        elif message.round == 0:
            others = frozenset(range(self._members.world_size)) - {member.worker}
            self._owe(0, message.cause, frozenset(), others)
        if member.answer_to(message.ordinal) is None:
            self._desk.answer(member, "save", Aborted(message.round, message.ordinal, message.cause))

    def give_up(self, member: Member, cause: Cause) -> None:
        """`member` does not take part in the open round any more: the others go on, or it is aborted."""
        current = self.current
        if isinstance(current, SaveRound):
            self._advance(lambda: current.gave_up(member.worker, cause, self._desk.now))
        else:
            self.abort(cause)

    def lose(self, member: Member, cause: Cause) -> None:
        """`member` is not there any more: the others go on, or the open round is aborted."""
        current = self.current
        if isinstance(current, SaveRound):
            self._advance(lambda: current.lose(member, cause, self._desk.now))
        else:
            self.abort(cause)

    def abort(self, cause: Cause) -> None:
        """Gives the open round up, on all workers, at once."""
        current = self.current
        if current is None:
            return
        self._desk.log("warning", f"round {current.number} is aborted: {cause.kind}: {cause.message}")
        self._owe(current.number, cause, current.subjects, frozenset(current.gathering.absent))
        self._end(current, "aborted", _aborted(current, cause))
        self._discard(current.number, current.handles)

    def abandon(self, cause: Cause) -> None:
        """Ends the open round without touching what it staged: the directory is another generation's now."""
        if self.current is not None and not self.committing:
            self._end(self.current, "unknown", _aborted(self.current, cause))

    def _owe(self, number: int, outcome: Cause | Committed, subjects: frozenset[str], owed: frozenset[int]) -> None:
        if owed:
            expires_at = self._desk.now + self._deadlines.announce_s
            self._outcomes.owe(Verdict(number, outcome, subjects, owed, expires_at))

    def _end(self, current: Round, end: End, answers: Mapping[int, Answer]) -> None:
        current.end(end, self._desk.now)
        self._outcomes.record(current.number, end, current.kept)
        self.current = None
        for worker, answer in answers.items():
            self._desk.answer(current.gathering.parties[worker], current.kind, answer)
        if isinstance(current, SaveRound):
            self.salvaged = None
            result = next(_result(answer) for answer in answers.values())
            self.on_save_end(current.step, result, self._desk.now - current.gathering.opened_at)


def _aborted(current: Round, cause: Cause) -> dict[int, Answer]:
    return {worker: Aborted(current.number, ordinal, cause) for worker, ordinal in current.ordinals.items()}


def _result(answer: Answer) -> Checkpoint | Cause:
    assert not isinstance(answer, RestoreDecided), "no answer to a save"
    return answer.checkpoint if isinstance(answer, Committed) else answer.cause


def _concerns(current: Round, member: Member, message: Failed) -> bool:
    """True if `message` is about this round: by its number, by the request, or (a save) by not coming to it."""
    party = current.gathering.parties.get(member.worker)
    if party is None:
        return current.kind == "save" and current.is_gathering and not message.round
    if message.round:
        return party is member and message.round == current.number
    return party is member and current.ordinals[member.worker] == message.ordinal


def _asked_before(current: Round, member: Member, ordinal: int) -> bool:
    """True if `member` came to this round with an earlier request."""
    came = current.gathering.parties.get(member.worker) is member
    return came and current.ordinals[member.worker] < ordinal
