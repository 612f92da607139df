"""One attempt to save one step: gather the announcements, decide, collect the shards, commit.

Everything that decides whether a save may be committed stands in this file. The round knows only current members: the
coordinator has sorted out unknown incarnations, repeated requests and other rounds' messages before it calls.

A worker that is lost, late or cannot write costs the save nothing as long as the chief and those who have announced it
hold the same values: its share is given up and split among them. The chief cannot be done without.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from distckpt.model import CHIEF, Cause, Check, Shard, TensorSpec
from distckpt.protocol.cross_check import CrossCheck, Difference, differences, told
from distckpt.protocol.deadlines import Deadlines
from distckpt.protocol.effects import Commit, Discard, Log
from distckpt.protocol.gathering import Gathering, GiveUp, Orders
from distckpt.protocol.machine import Machine
from distckpt.protocol.membership import NEVER, Kind, Member, Presence
from distckpt.protocol.messages import Announce, Decided, Describe
from distckpt.protocol.plan import first_difference
from distckpt.protocol.shares import Shares
from distckpt.protocol.speeds import Speeds

LOOK_AGAIN = 0.1
"""So much of `straggler_s` later it is seen whether someone is done who can take over a late share."""


class SaveState(Enum):
    GATHERING = "gathering"
    DESCRIBING = "describing"
    WRITING = "writing"
    COMMITTING = "committing"
    ENDED = "ended"


_TABLE = {
    SaveState.GATHERING: (SaveState.DESCRIBING, SaveState.WRITING, SaveState.ENDED),
    SaveState.DESCRIBING: (SaveState.ENDED,),
    SaveState.WRITING: (SaveState.COMMITTING, SaveState.ENDED),
    SaveState.COMMITTING: (SaveState.ENDED,),
    SaveState.ENDED: (),
}


class SaveRound:
    kind: Kind = "save"

    def __init__(
        self,
        number: int,
        first: Announce,
        gathering: Gathering,
        deadlines: Deadlines,
        speeds: Speeds,
        cross_check: CrossCheck,
    ) -> None:
        self.number = number
        self.step = first.step
        self.name = first.name
        self.is_salvage = first.salvage
        self.gathering = gathering
        self.machine = Machine(f"save round {number}", _TABLE, SaveState.GATHERING)
        self.shares = Shares(gathering.members.world_size, gathering.opened_at)
        self._deadlines = deadlines
        self._speeds = speeds
        self._decided_at = self._look_at = gathering.opened_at
        self._announced: dict[int, Announce] = {}
        self._subjects: set[str] = set()
        self._own_bytes: tuple[int, ...] = ()  # as of the decision: all plan by the same, also who comes back later
        self._weights: tuple[int, ...] = ()  # likewise
        self._asked: dict[int, tuple[TensorSpec, ...] | None] = {}
        self._failed: set[int] = set()
        self._cross_check = cross_check
        self._checks: dict[int, Check] = {}
        self.found: tuple[Difference, ...] = ()
        """Where the workers did not hold the same; known when the commit is ordered."""
        self._kept: frozenset[str] = frozenset()

    @property
    def state(self) -> SaveState:
        return self.machine.state

    @property
    def is_gathering(self) -> bool:
        return self.state is SaveState.GATHERING

    @property
    def is_committing(self) -> bool:
        return self.state is SaveState.COMMITTING

    @property
    def ordinals(self) -> dict[int, int]:
        return self.gathering.ordinals

    @property
    def subjects(self) -> frozenset[str]:
        """What has been announced; see outcomes.Verdict."""
        return frozenset(self._subjects)

    @property
    def handles(self) -> tuple[str, ...]:
        """Of all that was handed in."""
        return tuple(handle for shard in self.shares.shards.values() for handle in shard.handles)

    @property
    def kept(self) -> frozenset[str]:
        """The handles that the commit names; empty before it is ordered."""
        return self._kept

    @property
    def deadline(self) -> float | None:
        """When the round is to be looked at. A commit that has begun has none: only its outcome ends it."""
        if self.is_committing:
            return None
        if self.state is not SaveState.WRITING:
            return self.gathering.until
        return min(self._decided_at + self._deadlines.write_s, self._look_at)

    def end(self, why: str, now: float) -> None:
        self.machine.go(SaveState.ENDED, why, now)

    # ------------------------------------------------------------------------------------------------------- gathering

    def may_come(self, member: Member, message: Announce) -> bool:
        """Whether this announcement is for this round. One that comes when it is decided has to be of the same save."""
        party = self.gathering.parties.get(member.worker)
        if party is not None or self.is_gathering:
            return party is member or party is None
        digests = {said.digest for said in self._announced.values()}
        return subject_of(message) in self.subjects and message.digest in digests and message.captured

    def announce(self, member: Member, message: Announce, now: float) -> Orders:
        """Takes an announcement, first or repeated. Raises GiveUp if the workers cannot be at the same save."""
        if member.worker in self._announced:
            return self._again(member.worker)
        self._announced[member.worker] = message
        self._subjects.add(subject_of(message))
        self.gathering.come(member, message.ordinal)
        if not self.is_gathering:  # it was lost, and is back
            return self._again(member.worker)
        self._check_same_step(member.worker, message)
        self.gathering.check_left(now)
        return self._gathered(now)

    def _check_same_step(self, worker: int, message: Announce) -> None:
        if (message.step, message.name) == (self.step, self.name):
            return
        named = message.name != self.name and message.step == self.step
        who = ", ".join(
            f"worker {other} saves {'checkpoint ' + said.name if named else f'step {said.step}'}"
            for other, said in sorted(self._announced.items())
        )
        raise GiveUp("StepMismatch", f"workers are not at the same save: {who}", worker)

    def _gathered(self, now: float) -> Orders:
        """Decides if all are here but those who are lost."""
        lost = self.gathering.lost
        if lost and (CHIEF in lost or not all(said.captured for said in self._announced.values())):
            self.gathering.check_lost(now)
        if not lost and not self.gathering.all_came:
            return []
        if set(self.gathering.absent) - set(lost):
            self.gathering.hurry(now + self._deadlines.disconnect_s)
            return []
        return self._all_announced(lost, now)

    def _all_announced(self, lost: Sequence[int], now: float) -> Orders:
        firsts: dict[str, int] = {}
        for worker in sorted(self._announced.keys() - set(lost)):
            firsts.setdefault(self._announced[worker].digest, worker)
        if len(firsts) > 1:
            self.machine.go(SaveState.DESCRIBING, f"{len(firsts)} digests", now)
            self._asked = dict.fromkeys(sorted(firsts.values())[:2])
            return [self._describe(worker) for worker in self._asked]
        self.machine.go(SaveState.WRITING, "all announced", now)
        self._decided_at = now
        self._look_at = now + self._deadlines.straggler_s
        said = self._announced
        self._own_bytes = tuple(said[each].own_bytes if each in said else 0 for each in range(self.shares.workers))
        self._weights = self._speeds.weights
        self.shares = Shares(self.shares.workers, now)
        return self._give_up(lost, self._present, now) or self._tell_all()

    def _again(self, worker: int) -> Orders:
        if self.state is SaveState.WRITING:
            return [(self.gathering.parties[worker], self._decided(self.ordinals[worker]))]
        if self.state is SaveState.DESCRIBING and worker in self._asked and self._asked[worker] is None:
            return [self._describe(worker)]
        return []

    def _tell_all(self) -> Orders:
        """One decision for all whose number of the request is the same: thousands hear it, and it names them all."""
        decided = {ordinal: self._decided(ordinal) for ordinal in set(self.ordinals.values())}
        return [(self.gathering.parties[worker], decided[ordinal]) for worker, ordinal in self.ordinals.items()]

    def _decided(self, ordinal: int) -> Decided:
        return Decided(self.number, ordinal, self.step, self._own_bytes, self.shares.splits, self._weights)

    def _describe(self, worker: int) -> tuple[Member, Describe]:
        return self.gathering.parties[worker], Describe(self.number, self.ordinals[worker])

    def described(self, worker: int, specs: tuple[TensorSpec, ...]) -> Orders:
        """Takes the description of one of the two that differ. Raises GiveUp when both are there."""
        if worker not in self._asked:
            return []
        self._asked[worker] = specs
        (one, of_one), (other, of_other) = sorted(self._asked.items())
        if of_one is None or of_other is None:
            return []
        difference = first_difference(of_one, of_other, (f"worker {one}", f"worker {other}"))
        raise GiveUp("ModelMismatch", f"save of step {self.step}: the models differ: {difference}", other)

    # --------------------------------------------------------------------------------------------------------- writing

    def written(self, worker: int, share: int, shard: Shard, check: Check | None, now: float) -> Orders:
        """Takes a shard; the one that makes the save complete gives the Commit. Raises GiveUp for a shard that is not
        the sender's, and where the workers do not hold the same and that is to be refused.
        """
        if self.is_committing:
            return self._useless(shard)
        if self.state is not SaveState.WRITING:
            return []
        if share in self.shares.shards:
            return self._again(worker) if self.shares.awaited_of(worker) else []
        if shard.worker != worker or not self.shares.is_of(share, worker):
            raise GiveUp("WriteFailed", f"worker {worker} handed in a shard of worker {shard.worker}", worker)
        self.shares.hand_in(share, shard, now)
        if check is not None:
            self._checks[worker] = check
        return self._complete(now) if self.shares.is_complete else []

    def _complete(self, now: float) -> Orders:
        chosen = self.shares.chosen()
        suspicion = self._compare(chosen)
        self.machine.go(SaveState.COMMITTING, "all shards are in", now)
        present = set(self._present)
        self._speeds.measure([each for each in self.shares.writings(now) if each.worker in present])
        self._kept = frozenset(handle for shard in chosen.values() for handle in shard.handles)
        missing = [worker for worker in range(self.shares.workers) if worker not in chosen and self._had_own(worker)]
        said = self._announced[CHIEF]
        shards = tuple(chosen.values())
        commit = Commit(self.number, self.step, self.name, shards, said.metrics, tuple(missing), said.digest)
        useless = [order for shard in self.shares.shards.values() for order in self._useless(shard)]
        return [*suspicion, commit, *useless]

    def _compare(self, chosen: dict[int, Shard]) -> Orders:
        """Looks for what is not the same on all workers. Raises GiveUp if such a save is to be refused."""
        if self._cross_check == "off":
            return []
        self.found = tuple(differences(chosen, self._checks))
        if not self.found:
            return []
        text = f"{self.gathering.what}: {told(self.found)}"
        if self._cross_check == "refuse":
            raise GiveUp("ReplicasDiffer", text, self.found[0].worker)
        return [Log("warning", text)]

    def _had_own(self, worker: int) -> bool:
        """Whether it had, or may have had, something to write that only it has."""
        said = self._announced.get(worker)
        return said is None or said.own_bytes > 0

    def _useless(self, shard: Shard) -> Orders:
        """A share came, and so did all of its parts: what the commit does not name is removed."""
        handles = tuple(handle for handle in shard.handles if handle not in self._kept)
        return [Discard(self.number, handles)] if handles else []

    # ---------------------------------------------------------------------------------------------------------- trouble

    def not_written(self, worker: int, share: int, cause: Cause, now: float) -> Orders:
        """`worker` could not write: the others shall. Raises GiveUp if nobody else can."""
        if self.state is not SaveState.WRITING or not self.shares.is_of(share, worker):
            return []
        if self.shares.is_settled(share):
            return self._again(worker)
        self._failed.add(worker)
        return self._without(worker, [share], cause, now)

    def gave_up(self, worker: int, cause: Cause, now: float) -> Orders:
        """`worker` has ended its save. Raises GiveUp if the others cannot go on without it."""
        if self.state is not SaveState.WRITING or not self._announced[worker].captured:
            raise _given_up(cause)
        self._failed.add(worker)
        return self._without(worker, self.shares.awaited_of(worker), cause, now)

    def lose(self, member: Member, cause: Cause, now: float) -> Orders:
        """`member` is not there any more. Raises GiveUp if the others cannot go on without it."""
        if self.is_gathering and member.presence is Presence.LOST and member.worker != CHIEF:
            return self._gathered(now)
        if self.state is not SaveState.WRITING:
            raise _given_up(cause)
        return self._without(member.worker, self.shares.awaited_of(member.worker), cause, now)

    def _without(self, worker: int, shares: list[int], cause: Cause, now: float) -> Orders:
        writers = [other for other in self._present if other != worker]
        if worker == CHIEF or (shares and not writers):
            raise _given_up(cause)
        return self._give_up(shares, writers, now)

    def _give_up(self, shares: Sequence[int], writers: list[int], now: float) -> Orders:
        for share in shares:
            self.shares.split(share, tuple(writers), now)
            self._look_at = min(self._look_at, now + self._deadlines.straggler_s)
        return self._tell_all() if shares else []

    @property
    def _present(self) -> list[int]:
        """Who is there, holds the values, and has not failed."""
        parties = sorted(self.gathering.parties.items())
        here = [worker for worker, member in parties if member.presence is Presence.PRESENT]
        return [worker for worker in here if worker not in self._failed]

    @property
    def _idle(self) -> list[int]:
        """Who has written, and is done."""
        done = {shard.worker for shard in self.shares.shards.values() if shard.data_files}
        done -= {self.shares.writers[share] for share in self.shares.awaited}
        return [worker for worker in self._present if worker in done]

    def _late_at(self) -> dict[int, float]:
        """When each awaited share counts as late. What only the chief has is waited for until the end."""
        awaited = (share for share in self.shares.awaited if share != CHIEF)
        return {share: self.shares.late_at(share, self._deadlines.straggler_s) for share in awaited}

    def check_time(self, now: float) -> Orders:
        """Raises GiveUp if a deadline has passed."""
        if self.is_gathering:
            if now >= self.gathering.until:
                self.gathering.check_lost(now)
            self.gathering.check_time(now)
        elif self.state is SaveState.DESCRIBING and now >= self.gathering.until:
            silent = [worker for worker, specs in self._asked.items() if specs is None]
            raise self.gathering.blame("ModelMismatch", silent, "the models differ, and how was not told by", now)
        elif self.state is SaveState.WRITING:
            self._check_written(now)
            return self._check_late(now)
        return []

    def _check_late(self, now: float) -> Orders:
        """Gives what is late to those who are done. Looks only now and then: thousands may be awaited at first."""
        if now < self._look_at:
            return []
        late_at = self._late_at()
        late = [share for share, since in late_at.items() if now >= since]
        idle = self._idle
        self._look_at = min((since for since in late_at.values() if now < since), default=NEVER)
        if late and not idle:
            self._look_at = min(self._look_at, now + LOOK_AGAIN * self._deadlines.straggler_s)
        return self._give_up(late, idle, now) if late and idle else []

    def _check_written(self, now: float) -> None:
        if now < self._decided_at + self._deadlines.write_s:
            return
        unwritten = sorted({self.shares.writers[share] for share in self.shares.awaited})
        waited = f"not written {now - self._decided_at:.1f} s after it was decided, by"
        raise self.gathering.blame("DeadlineExceeded", unwritten, waited, now)


def _given_up(cause: Cause) -> GiveUp:
    return GiveUp(cause.kind, cause.message, cause.worker)


def subject_of(message: Announce) -> str:
    return f"save {message.step} {message.name}"
