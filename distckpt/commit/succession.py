"""A survivor takes the directory over from a chief that is gone, to commit the one save that was in flight.

It is a generation like any other: it seals the one before, recovers what that left, and commits; whoever of the sealed
one lives after all is fenced. It is told from a start of the job by its empty `world`. It never begins where another
generation has begun already: the journal decides who was first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from distckpt.commit.committer import Committer
from distckpt.commit.recovery import recover
from distckpt.commit.removal import Leased
from distckpt.errors import DistckptError, OutcomeUnknown, SaveAborted
from distckpt.journal.log import Journal
from distckpt.journal.records import Process
from distckpt.journal.state import JournalState
from distckpt.model import Checkpoint, Shard
from distckpt.protocol.effects import Commit
from distckpt.protocol.retention import Policy, Preservation
from distckpt.storage.interface import Storage


@dataclass(frozen=True, slots=True)
class Succession:
    """To the chief of `generation` of `job`. `directory` is the path as TensorFlow's state file may spell it; `clock`
    gives seconds since the epoch.
    """

    storage: Storage
    job: str
    generation: int
    directory: str
    policy: Policy
    preservation: Preservation
    leased: Leased
    clock: Callable[[], float]

    def begin(self, process: Process, newer_than: int | None = None) -> Journal | None:
        """The journal, as the writer of the next generation; None where another has begun. Raises as Journal.begin, and
        SaveAborted where the last commit is of step `newer_than` or a later one: that is all that there is to save.
        """

        def admit(state: JournalState) -> None:
            if state.generation != self.generation:
                raise _OutrunError
            if newer_than is not None and state.live and state.live[-1].step >= newer_than:
                raise SaveAborted(f"step {newer_than} is not salvaged: {state.live[-1].name} is committed already")

        journal = Journal.open(self.storage)
        try:
            journal.begin(job=self.job, process=process, world=(), timestamp=self.clock(), admit=admit)
        except _OutrunError:
            return None
        return journal

    def commit(self, journal: Journal, save: Save, write: Callable[[int], Shard]) -> Checkpoint:
        """Commits `save`, unless the chief had done so before it was gone. `write` stages all of it, as one shard, for
        the generation that it is given. Raises as `recover`, `write` and `Committer.commit` do.
        """
        last_preserved = recover(self.storage, journal, self.directory, self.leased, self.clock())
        done = committed(journal.state, save.name, self.generation)
        if done is not None:
            return done
        committer = Committer(
            self.storage,
            journal,
            self.job,
            self.policy,
            last_preserved,
            clock=self.clock,
            leased=self.leased,
            preservation=self.preservation,
        )
        shard = write(journal.state.generation)
        order = Commit(save.round, save.step, save.name, (shard,), save.metrics, save.missing)
        try:
            return committer.commit(order)[0]
        except OutcomeUnknown:
            raise
        except DistckptError:
            for handle in shard.handles:
                self.storage.discard(handle)
            raise


@dataclass(frozen=True, slots=True)
class Save:
    """What is to be committed. `missing`: the workers whose own state the one who commits it does not have."""

    round: int
    step: int
    name: str
    metrics: Mapping[str, float]
    missing: tuple[int, ...]


def committed(state: JournalState, name: str, generation: int) -> Checkpoint | None:
    """Checkpoint `name`, if it was committed by `generation`, or by a survivor that took over from it."""
    heirs = {generation}
    if state.generation == generation + 1 and not is_start(state):
        heirs.add(state.generation)
    return next((each for each in state.live if each.name == name and each.generation in heirs), None)


def is_start(state: JournalState) -> bool:
    """Whether the generation that holds the directory is a start of the job, and not a survivor's."""
    return state.begun is None or bool(state.begun.world)


class _OutrunError(Exception):
    """Another generation has begun already."""
