"""One attempt to save one step: gather the announcements, decide, collect the shards, commit.

Everything that decides whether a save may be committed stands in this file. The round knows only current members: the
coordinator has sorted out unknown incarnations, repeated requests and other rounds' messages before it calls.
"""

from __future__ import annotations

from enum import Enum

from distckpt.model import CHIEF, Shard, TensorSpec
from distckpt.protocol.deadlines import Deadlines
from distckpt.protocol.effects import Commit
from distckpt.protocol.gathering import Gathering, GiveUp, Orders
from distckpt.protocol.machine import Machine
from distckpt.protocol.membership import Kind, Member
from distckpt.protocol.messages import Announce, Decided, Describe
from distckpt.protocol.plan import first_difference


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

    def __init__(self, number: int, first: Announce, gathering: Gathering, deadlines: Deadlines) -> None:
        self.number = number
        self.step = first.step
        self.name = first.name
        self.gathering = gathering
        self.machine = Machine(f"save round {number}", _TABLE, SaveState.GATHERING)
        self.shards: dict[int, Shard] = {}
        self._write_s = deadlines.write_s
        self._decided_at = gathering.opened_at
        self._announced: dict[int, Announce] = {}
        self._asked: dict[int, tuple[TensorSpec, ...] | None] = {}

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
        return frozenset(subject_of(message) for message in self._announced.values())

    @property
    def handles(self) -> tuple[str, ...]:
        return tuple(shard.handle for shard in self.shards.values())

    @property
    def deadline(self) -> float | None:
        """When the round is to be looked at. A commit that has begun has none: only its outcome ends it."""
        if self.is_committing:
            return None
        return self._decided_at + self._write_s if self.state is SaveState.WRITING else self.gathering.until

    def end(self, why: str, now: float) -> None:
        self.machine.go(SaveState.ENDED, why, now)

    # ------------------------------------------------------------------------------------------------------- gathering

    def announce(self, member: Member, message: Announce, now: float) -> Orders:
        """Takes an announcement, first or repeated. Raises GiveUp if the workers cannot be at the same save."""
        if member.worker in self._announced:
            return self._again(member.worker)
        self._announced[member.worker] = message
        self.gathering.come(member, message.ordinal)
        self._check_same_step(member.worker, message)
        self.gathering.check_absent(now)
        return self._all_announced(now) if self.gathering.all_came else []

    def _check_same_step(self, worker: int, message: Announce) -> None:
        if (message.step, message.name) == (self.step, self.name):
            return
        named = message.name != self.name and message.step == self.step
        who = ", ".join(
            f"worker {other} saves {'checkpoint ' + said.name if named else f'step {said.step}'}"
            for other, said in sorted(self._announced.items())
        )
        raise GiveUp("StepMismatch", f"workers are not at the same save: {who}", worker)

    def _all_announced(self, now: float) -> Orders:
        firsts: dict[str, int] = {}
        for worker in sorted(self._announced):
            firsts.setdefault(self._announced[worker].digest, worker)
        if len(firsts) > 1:
            self.machine.go(SaveState.DESCRIBING, f"{len(firsts)} digests", now)
            self._asked = dict.fromkeys(sorted(firsts.values())[:2])
            return [self._describe(worker) for worker in self._asked]
        self.machine.go(SaveState.WRITING, "all announced", now)
        self._decided_at = now
        return [self._decided(worker) for worker in self.ordinals]

    def _again(self, worker: int) -> Orders:
        if self.state is SaveState.WRITING:
            return [self._decided(worker)]
        if self.state is SaveState.DESCRIBING and worker in self._asked and self._asked[worker] is None:
            return [self._describe(worker)]
        return []

    def _decided(self, worker: int) -> tuple[Member, Decided]:
        own_bytes = tuple(self._announced[other].own_bytes for other in sorted(self._announced))
        decided = Decided(self.number, self.ordinals[worker], self.step, own_bytes)
        return self.gathering.parties[worker], decided

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

    def written(self, worker: int, shard: Shard, now: float) -> Orders:
        """Takes a shard; the last one of all gives the Commit. Raises GiveUp for a shard that is not the sender's."""
        if self.state is not SaveState.WRITING or worker in self.shards:
            return []
        if shard.worker != worker:
            raise GiveUp("WriteFailed", f"worker {worker} handed in a shard of worker {shard.worker}", worker)
        self.shards[worker] = shard
        if len(self.shards) < len(self.ordinals):
            return []
        self.machine.go(SaveState.COMMITTING, "all shards are in", now)
        shards = tuple(self.shards[other] for other in sorted(self.shards))
        return [Commit(self.number, self.step, self.name, shards, self._announced[CHIEF].metrics)]

    # ---------------------------------------------------------------------------------------------------------- trouble

    def check_time(self, now: float) -> Orders:
        """Raises GiveUp if a deadline has passed."""
        if self.state is SaveState.GATHERING:
            self.gathering.check_time(now)
        elif self.state is SaveState.DESCRIBING and now >= self.gathering.until:
            silent = [worker for worker, specs in self._asked.items() if specs is None]
            raise self.gathering.blame("ModelMismatch", silent, "the models differ, and how was not told by", now)
        elif self.state is SaveState.WRITING and now >= self._decided_at + self._write_s:
            unwritten = [worker for worker in sorted(self.ordinals) if worker not in self.shards]
            waited = f"not written {now - self._decided_at:.1f} s after it was decided, by"
            raise self.gathering.blame("DeadlineExceeded", unwritten, waited, now)
        return []


def subject_of(message: Announce) -> str:
    return f"save {message.step} {message.name}"
