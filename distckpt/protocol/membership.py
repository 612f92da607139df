"""Who takes part: one current incarnation per worker, when it was last heard of, and what it last did.

A member is lost when it was silent for `silence_s`, or when its connection broke and it has not spoken for
`disconnect_s`; speaking again brings it back. A newer incarnation replaces it for good, and so does nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import Enum
from typing import Literal

from distckpt.model import Cause
from distckpt.protocol.deadlines import Deadlines
from distckpt.protocol.machine import Machine
from distckpt.protocol.messages import Aborted, Committed, Join, RestoreDecided

REPLACED_MAX = 16  # incarnations of one worker that are remembered as replaced
NEVER = float("inf")

Kind = Literal["save", "restore"]
Answer = Committed | Aborted | RestoreDecided


class Presence(Enum):
    PROBING = "probing"
    PRESENT = "present"
    LOST = "lost"
    LEFT = "left"
    GONE = "gone"


_TABLE = {
    Presence.PROBING: (Presence.PRESENT, Presence.LOST, Presence.LEFT, Presence.GONE),
    Presence.PRESENT: (Presence.LOST, Presence.LEFT, Presence.GONE),
    Presence.LOST: (Presence.PRESENT, Presence.LEFT, Presence.GONE),
    Presence.LEFT: (Presence.GONE,),
    Presence.GONE: (),
}


class Member:
    """One incarnation of one worker."""

    def __init__(self, worker: int, incarnation: str, join: Join, now: float) -> None:
        self.worker = worker
        self.incarnation = incarnation
        self.join = join
        self.machine = Machine(f"worker {worker} ({incarnation})", _TABLE, Presence.PROBING)
        self.heard_at = now
        self.disconnected_at: float | None = None
        self.step = -1
        self.kept: tuple[int, ...] = ()
        self.is_parting = False
        self.told_at = now  # of these three
        self.doing = "joined"
        self.left: Cause | None = None
        self.answers: dict[Kind, Answer] = {}
        """The outcome of the last request of each kind, for whoever asks again."""

    @property
    def presence(self) -> Presence:
        return self.machine.state

    def answer_to(self, ordinal: int) -> Answer | None:
        return next((answer for answer in self.answers.values() if answer.ordinal == ordinal), None)

    def last_ordinal(self, kind: Kind) -> int:
        """The number of the last request of this kind that has its outcome; 0 if there is none."""
        answer = self.answers.get(kind)
        return 0 if answer is None else answer.ordinal

    def lost_at(self, deadlines: Deadlines) -> float:
        """When this member counts as lost if it stays silent."""
        silent = self.heard_at + deadlines.silence_s
        return silent if self.disconnected_at is None else min(silent, self.disconnected_at + deadlines.disconnect_s)

    def describe(self, now: float) -> str:
        """For people: who, where, since when silent, what it last did."""
        where = f"{self.join.address or self.join.host}, pid {self.join.pid}"
        heard = f"last heard of {now - self.heard_at:.1f} s ago"
        at = f" at step {self.step}" if self.step >= 0 else ""
        if self.presence is Presence.LEFT:
            why = "normally" if self.left is None else f"because of {self.left.kind}: {self.left.message}"
            return f"worker {self.worker} ({where}) left {now - self.heard_at:.1f} s ago {why}"
        return f"worker {self.worker} ({where}; {heard}{at}; last did: {self.doing})"


class Membership:
    def __init__(self, world_size: int, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._members: list[Member | None] = [None] * world_size
        self._replaced: dict[int, deque[str]] = {}
        self._check_at = NEVER
        self._by_presence: dict[Presence, tuple[int, ...]] | None = None

    @property
    def world_size(self) -> int:
        return len(self._members)

    @property
    def check_at(self) -> float:
        """Nobody is lost before this time (it may be too early, never too late)."""
        return self._check_at

    def __iter__(self) -> Iterator[Member]:
        """The members that have passed their probe and not left, by worker; the lost ones too."""
        return (m for m in self._members if m is not None and m.presence in (Presence.PRESENT, Presence.LOST))

    def those(self, presence: Presence) -> tuple[int, ...]:
        """The workers whose current incarnation is in this state. Asked at every event, so it is counted anew only
        after a change.
        """
        if self._by_presence is None:
            grouped: dict[Presence, list[int]] = {}
            for member in self._members:
                if member is not None:
                    grouped.setdefault(member.presence, []).append(member.worker)
            self._by_presence = {state: tuple(workers) for state, workers in grouped.items()}
        return self._by_presence.get(presence, ())

    def of(self, worker: int) -> Member | None:
        """The current incarnation of `worker`, whatever its state."""
        return self._members[worker]

    def find(self, worker: int, incarnation: str) -> Member | None:
        """The current incarnation of `worker` if it is this one."""
        member = self._members[worker]
        return member if member is not None and member.incarnation == incarnation else None

    def was_replaced(self, worker: int, incarnation: str) -> bool:
        return incarnation in self._replaced.get(worker, ())

    def admit(self, worker: int, incarnation: str, join: Join, now: float) -> Member | None:
        """Puts a new incarnation in place of the old one, which is returned."""
        old = self._members[worker]
        if old is not None:
            self._go(old, Presence.GONE, f"{incarnation} joined", now)
            self._replaced.setdefault(worker, deque(maxlen=REPLACED_MAX)).append(old.incarnation)
        self._members[worker] = Member(worker, incarnation, join, now)
        self._by_presence = None
        return old

    def accept(self, member: Member, now: float) -> None:
        """Its probe was read: it takes part."""
        self._go(member, Presence.PRESENT, "its probe was read", now)
        self._check_at = min(self._check_at, member.lost_at(self._deadlines))

    def expel(self, member: Member, why: str, now: float) -> None:
        """Forgets an incarnation that may not take part."""
        self._go(member, Presence.GONE, why, now)
        self._members[member.worker] = None

    def leave(self, member: Member, now: float) -> None:
        """It said that it goes."""
        self._go(member, Presence.LEFT, "it said so", now)

    def heard(self, member: Member, now: float) -> None:
        if member.presence is Presence.LEFT:
            return
        member.heard_at = now
        member.disconnected_at = None
        if member.presence is Presence.LOST:
            self._go(member, Presence.PRESENT, "spoke again", now)
            self._check_at = min(self._check_at, now + self._deadlines.silence_s)

    def disconnected(self, member: Member, now: float) -> None:
        if member.disconnected_at is None:
            member.disconnected_at = now
            self._check_at = min(self._check_at, member.lost_at(self._deadlines))

    def bear_with(self, now: float) -> None:
        """The coordinator itself did not run for a while: that nothing was heard says nothing of anybody."""
        for member in self:
            if member.presence is Presence.PRESENT:
                member.heard_at = now

    def take_lost(self, now: float) -> list[Member]:
        """Those who are lost from now on."""
        if now < self._check_at:
            return []
        watched = [m for m in self._members if m is not None and m.presence is Presence.PRESENT]
        lost = [m for m in watched if m.lost_at(self._deadlines) <= now]
        for member in lost:
            self._go(member, Presence.LOST, "silent" if member.disconnected_at is None else "disconnected", now)
        still = (m.lost_at(self._deadlines) for m in watched if m.presence is Presence.PRESENT)
        self._check_at = min(still, default=NEVER)
        return lost

    def _go(self, member: Member, presence: Presence, why: str, now: float) -> None:
        member.machine.go(presence, why, now)
        self._by_presence = None

    def describe(self, worker: int, now: float) -> str:
        member = self._members[worker]
        return f"worker {worker} (never joined)" if member is None else member.describe(now)
