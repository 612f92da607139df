"""Saves that no worker foresaw: the coordinator finds a step that no worker has passed, and all save there.

A wish opens a proposal when all workers are present and none is open. Each agent answers with a ceiling that its
training does not pass before the decision; the highest of them is the step. From then on it is a save as any other,
whose round says what comes of it. Wishes that come before that save has begun share it; later ones wait for the next.

What is agreed on is saved even if nobody waits for it any more: some may have begun to.

Promised: every wish has one outcome, at the latest `within_s` after it came; a decision, or that there is none, follows
`agree_s` after the proposal.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from distckpt.errors import error_from
from distckpt.model import Cause, Checkpoint
from distckpt.protocol.deadlines import Deadlines
from distckpt.protocol.desk import Desk
from distckpt.protocol.effects import WishAnswered
from distckpt.protocol.machine import Machine
from distckpt.protocol.membership import NEVER, Member, Membership, Presence
from distckpt.protocol.messages import Agreed, Ceiling, Propose, Wish, WishOver, Withdrawn

ANSWERS_MAX = 64
"""So many answers to agents are remembered, for those who ask again."""
MEASURED = 3
"""So many saves say how long the next one takes."""

_OVER = Cause("SaveAborted", "this proposal is over")


class Stage(Enum):
    GATHERING = "gathering"
    AGREED = "agreed"
    SAVING = "saving"
    OVER = "over"


_TABLE = {
    Stage.GATHERING: (Stage.AGREED, Stage.OVER),
    Stage.AGREED: (Stage.SAVING, Stage.OVER),
    Stage.SAVING: (Stage.OVER,),
    Stage.OVER: (),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A wish and who has it: a member, or (None) a tool."""

    member: Member | None
    number: int
    wish: Wish
    until: float

    @property
    def key(self) -> tuple[str, int]:
        return ("" if self.member is None else self.member.incarnation), self.number


class Proposal:
    def __init__(self, number: int, wishes: list[Asked], parties: list[Member], now: float, agree_s: float) -> None:
        self.number = number
        self.wishes = wishes
        self.parties = parties
        self.machine = Machine(f"proposal {number}", _TABLE, Stage.GATHERING)
        self.until = now + agree_s
        self.repeat_at = now
        self.ceilings: dict[int, int] = {}
        self.step = -1

    @property
    def stage(self) -> Stage:
        return self.machine.state

    @property
    def reason(self) -> str:
        return "; ".join(dict.fromkeys(asked.wish.reason for asked in self.wishes))

    @property
    def agreed(self) -> Agreed:
        """The decision. No `final` wish comes in after it."""
        return Agreed(self.number, self.step, self.reason, any(asked.wish.final for asked in self.wishes))


class Proposals:
    """`is_busy` tells whether a round is open now."""

    def __init__(self, desk: Desk, members: Membership, deadlines: Deadlines, is_busy: Callable[[], bool]) -> None:
        self.current: Proposal | None = None
        self._desk = desk
        self._members = members
        self._deadlines = deadlines
        self._is_busy = is_busy
        self._numbers = 0
        self._waiting: list[Asked] = []
        self._decision: Agreed | None = None
        self._answers: dict[tuple[str, int], WishOver] = {}
        self._durations: deque[float] = deque(maxlen=MEASURED)
        self._closed: Cause | None = None

    @property
    def deadline(self) -> float:
        """When this is to be looked at."""
        until = [asked.until for asked in self._waiting]
        current = self.current
        if current is not None:
            until += [asked.until for asked in current.wishes]
            if current.stage is Stage.GATHERING:
                until += [current.until, current.repeat_at]
        return min(until, default=NEVER)

    # ---------------------------------------------------------------------------------------------------------- wishes

    def want(self, member: Member | None, number: int, wish: Wish) -> None:
        """Takes a wish, first or repeated."""
        asked = Asked(member, number, wish, self._desk.now + wish.within_s)
        answered = self._answers.get(asked.key)
        if answered is not None and member is not None:
            self._desk.say(member, answered)
        if answered is not None or asked.key in [each.key for each in self._open_wishes()]:
            return
        declined = self._closed or self._declined(wish)
        if declined is not None:
            self._answer(asked, declined)
            return
        self._desk.log("info", f"a save is wanted: {wish.reason}")
        current = self.current
        (current.wishes if current is not None and self._serves(current, wish) else self._waiting).append(asked)

    def _serves(self, current: Proposal, wish: Wish) -> bool:
        """Whether the save that is under way is what `wish` wants."""
        decision = self._decision
        if decision is None or decision.final:
            return True
        return current.stage is Stage.AGREED and not wish.final

    def _open_wishes(self) -> list[Asked]:
        return self._waiting if self.current is None else [*self._waiting, *self.current.wishes]

    def _declined(self, wish: Wish) -> Cause | None:
        """Why a save before the end of the job cannot be done in time; None if it can, or nobody knows."""
        if not wish.final or not self._durations:
            return None
        slowest, before = max(self._durations), self._is_busy()
        needed = slowest * (2 if before else 1)
        if needed <= wish.within_s:
            return None
        other = ", and one is under way" if before else ""
        text = f"a save takes {slowest:.1f} s (the slowest of the last {len(self._durations)}){other}"
        return Cause("DeadlineExceeded", f"{wish.reason}: declined: {text}; there are {wish.within_s:.1f} s")

    def _answer(self, asked: Asked, result: Checkpoint | Cause) -> None:
        if isinstance(result, Cause):
            answer = WishOver(asked.number, cause=result)
            self._desk.log("warning", f"no save for {asked.wish.reason}: {result.message}")
        else:
            answer = WishOver(asked.number, result.name, result.step)
        if asked.member is None:
            self._desk.do(WishAnswered(answer))
            return
        self._answers[asked.key] = answer
        if len(self._answers) > ANSWERS_MAX:
            del self._answers[next(iter(self._answers))]
        self._desk.say(asked.member, answer)

    # ------------------------------------------------------------------------------------------------------- agreement

    def advance(self) -> None:
        """Does what is due: after every event."""
        self._expire()
        if self.current is None and self._waiting:
            self._open_next()
        current = self.current
        if current is not None and current.stage is Stage.GATHERING and self._desk.now >= current.repeat_at:
            current.repeat_at = self._desk.now + self._deadlines.resend_s
            for member in current.parties:
                if member.worker not in current.ceilings:
                    self._desk.say(member, Propose(current.number))

    def _expire(self) -> None:
        now, current = self._desk.now, self.current
        for wishes in (self._waiting, [] if current is None else current.wishes):
            for asked in [asked for asked in wishes if now >= asked.until]:
                wishes.remove(asked)
                self._answer(asked, self._in_vain(asked))
        if current is not None and current.stage is Stage.GATHERING and now >= current.until:
            silent = [member for member in current.parties if member.worker not in current.ceilings]
            who = ", ".join(member.describe(now) for member in silent)
            self._end(Cause("DeadlineExceeded", f"no step was agreed on: no answer of {who}", silent[0].worker))

    def _in_vain(self, asked: Asked) -> Cause:
        now, size = self._desk.now, self._members.world_size
        missing = [self._members.describe(w, now) for w in range(size) if not _is_present(self._members.of(w))]
        steps = ", ".join(f"worker {member.worker} at {member.step}" for member in self._members)
        current = self.current
        if missing:
            why = f"not all workers are there: {', '.join(missing)}"
        elif current is not None and current.stage is not Stage.GATHERING:
            why = f"step {current.step} was agreed on and is not committed yet (last steps: {steps})"
        else:
            why = f"no step was agreed on (last steps: {steps})"
        return Cause("DeadlineExceeded", f"{asked.wish.reason}: after {asked.wish.within_s:g} s {why}")

    def _open_next(self) -> None:
        for worker in self._members.those(Presence.LEFT):
            self._answer_all(Cause("WorkerMissing", self._members.describe(worker, self._desk.now), worker))
            return
        if len(self._members.those(Presence.PRESENT)) == self._members.world_size:
            self._numbers += 1
            parties = list(self._members)
            self.current = Proposal(self._numbers, self._waiting, parties, self._desk.now, self._deadlines.agree_s)
            self._waiting = []

    def ceiling(self, member: Member, message: Ceiling) -> None:
        current = self.current
        if current is None or message.proposal != current.number:
            self._desk.say(member, Withdrawn(message.proposal, _OVER))
        elif self._decision is not None:
            self._desk.say(member, self._decision)
        else:
            current.ceilings.setdefault(member.worker, message.step)
            if len(current.ceilings) == len(current.parties):
                self._decide(current)

    def _decide(self, current: Proposal) -> None:
        current.step = max(current.ceilings.values())
        current.machine.go(Stage.AGREED, f"step {current.step}", self._desk.now)
        self._decision = current.agreed
        self._desk.log("info", f"all save at step {current.step}: {self._decision.reason}")
        for member in current.parties:
            self._desk.say(member, self._decision)

    # --------------------------------------------------------------------------------------------- what comes of a save

    def save_announced(self, step: int) -> None:
        current = self.current
        if current is not None and current.stage is Stage.AGREED and step >= current.step:
            current.machine.go(Stage.SAVING, "announced", self._desk.now)

    def save_ended(self, step: int, result: Checkpoint | Cause, seconds: float) -> None:
        """The round of a save of `step` is over, after so many seconds."""
        if isinstance(result, Checkpoint):
            self._durations.append(seconds)
        current = self.current
        if current is not None and current.stage is not Stage.GATHERING and step >= current.step:
            self._end(result)

    def failed(self, cause: Cause) -> None:
        """A worker cannot come to the save that is next."""
        if self.current is not None and self.current.stage is Stage.AGREED:
            self._end(cause)

    def gone(self, member: Member, text: str) -> None:
        """A worker is lost, has left, or was started again: no step can be agreed on, nor saved, with it."""
        current = self.current
        if current is not None and member in current.parties and current.stage in (Stage.GATHERING, Stage.AGREED):
            self._end(Cause("WorkerLost", f"{current.reason}: {text}", member.worker))

    def close(self, cause: Cause) -> None:
        """No save is possible any more."""
        self._closed = cause
        if self.current is not None:
            self._end(cause)
        self._answer_all(cause)

    def _answer_all(self, cause: Cause) -> None:
        waiting, self._waiting = self._waiting, []
        for asked in waiting:
            self._answer(asked, cause)

    def _end(self, result: Checkpoint | Cause) -> None:
        current = self.current
        assert current is not None, "there is one to end"
        current.machine.go(Stage.OVER, result.message if isinstance(result, Cause) else result.name, self._desk.now)
        self.current = self._decision = None
        if isinstance(result, Cause):
            for member in current.parties:
                self._desk.say(member, Withdrawn(current.number, result))
        for asked in current.wishes:
            if asked.wish.final and isinstance(result, Cause) and error_from(result).advice == "retry":
                self._waiting.append(asked)  # as long as it has time it is tried again
            else:
                self._answer(asked, result)


def _is_present(member: Member | None) -> bool:
    return member is not None and member.presence is Presence.PRESENT
