"""What a save round and a restore round have in common: who has come, who is awaited, and how they are given up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from distckpt.model import Cause
from distckpt.protocol.effects import Commit, Discard, Log, Quarantine
from distckpt.protocol.membership import Member, Membership, Presence
from distckpt.protocol.messages import CoordinatorMessage

NAMED_MAX = 4  # workers described in one message; more do not fit on a screen

Orders = Sequence[tuple[Member, CoordinatorMessage] | Commit | Discard | Quarantine | Log]
"""What a round wants the coordinator to do: tell a member something, or have something done."""


class GiveUp(Exception):
    """Raised by a round that cannot go on; the coordinator aborts it with `cause`."""

    def __init__(self, kind: str, message: str, worker: int | None = None) -> None:
        super().__init__(message)
        self.cause = Cause(kind, message, worker)


class Gathering:
    """The workers that have come to a round: `parties` their incarnations, `ordinals` their numbers for the request.

    `what` says what they come to ("the save of step 100"). `join_until`: when all should have joined the job.
    """

    def __init__(self, what: str, members: Membership, now: float, announce_s: float, join_until: float) -> None:
        self.what = what
        self.members = members
        self.opened_at = now
        self.ordinals: dict[int, int] = {}
        self.parties: dict[int, Member] = {}
        self._announce_until = now + announce_s
        joining = join_until > now and any(members.of(worker) is None for worker in range(members.world_size))
        self.until = min(join_until, self._announce_until) if joining else self._announce_until

    def come(self, member: Member, ordinal: int) -> None:
        self.parties[member.worker] = member
        self.ordinals[member.worker] = ordinal

    @property
    def all_came(self) -> bool:
        return len(self.ordinals) == self.members.world_size

    @property
    def absent(self) -> list[int]:
        return [worker for worker in range(self.members.world_size) if worker not in self.ordinals]

    @property
    def lost(self) -> tuple[int, ...]:
        """Whoever is lost, whether it had come or not."""
        return self.members.those(Presence.LOST)

    def check_left(self, now: float) -> None:
        """Raises GiveUp if someone who is still awaited has left."""
        for worker in self.members.those(Presence.LEFT):
            if worker not in self.ordinals:
                raise self._gone(worker, "WorkerMissing", "and will not come", now)

    def check_lost(self, now: float) -> None:
        """Raises GiveUp if someone is lost."""
        for worker in self.lost:
            raise self._gone(worker, "WorkerLost", "is lost", now)

    def _gone(self, worker: int, kind: str, how: str, now: float) -> GiveUp:
        return GiveUp(kind, f"{self.what}: {self.members.describe(worker, now)} {how}", worker)

    def hurry(self, until: float) -> None:
        """Someone is lost: the others, if they are at the same thing, are here by `until`."""
        self._announce_until = min(self._announce_until, until)
        self.until = min(self.until, until)

    def check_time(self, now: float) -> None:
        """Raises GiveUp if those who are absent have had their time."""
        if now < self.until:
            return
        if self.until < self._announce_until and all(self.members.of(worker) is not None for worker in self.absent):
            self.until = self._announce_until  # the join deadline is over, and all have joined
            return
        waited = f"waited {now - self.opened_at:.1f} s for"
        raise self.blame("WorkerMissing", self.absent, waited, now)

    def blame(self, kind: str, workers: Iterable[int], waited: str, now: float) -> GiveUp:
        """The error that names those who were awaited in vain."""
        late = list(workers)
        who = ", ".join(self.members.describe(worker, now) for worker in late[:NAMED_MAX])
        more = f" and {len(late) - NAMED_MAX} more" if len(late) > NAMED_MAX else ""
        return GiveUp(kind, f"{self.what}: {waited} {who}{more}", late[0])
