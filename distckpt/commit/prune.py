"""Retention for a directory whose job has ended: a generation of its own that retires, and ends."""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from distckpt.bundle.statefile import parse_state
from distckpt.commit.adoption import find_adoptable
from distckpt.commit.committer import Committer
from distckpt.commit.recovery import foresee_live
from distckpt.commit.statefile import read_state
from distckpt.commit.takeover import taken_over
from distckpt.errors import ObjectMissing
from distckpt.journal.leases import LeaseWatch
from distckpt.journal.reading import load
from distckpt.model import Checkpoint
from distckpt.protocol.retention import Policy, select_retired
from distckpt.storage.interface import Storage


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed and what was kept, oldest first; `leased` are the names of those kept that somebody reads."""

    removed: tuple[Checkpoint, ...]
    kept: tuple[Checkpoint, ...]
    leased: frozenset[str]


def foresee(storage: Storage, directory: str, policy: Policy) -> Pruned:
    """What `prune` would do now; changes nothing. Raises StorageError, CorruptData."""
    live = _live(storage, directory)
    active = [each for each in live if not each.preserved]
    leased = LeaseWatch(storage, sweep=False).held(live)
    return _pruned(live, select_retired(active, policy, leased), leased)


def prune(storage: Storage, directory: str, policy: Policy) -> Pruned:
    """Takes the directory over, recovers it as a start of its job would, and applies `policy`.

    What it leaves is free for the job's next start. `directory` is the path as TensorFlow's state file may spell it.
    Raises DirectoryInUse while a job lives there, Fenced where one starts meanwhile, StorageError, OutcomeUnknown,
    CorruptData.
    """
    with taken_over(storage, directory, "prune") as taken:
        journal, leased_now = taken.journal, taken.watch.held
        live = journal.state.live
        leased = leased_now(live)
        Committer(storage, journal, taken.job, policy, taken.last_preserved, leased=leased_now).retire()
        left = {each.name for each in journal.state.live}
    return _pruned(live, [each.name for each in live if each.name not in left], leased)


def _live(storage: Storage, directory: str) -> tuple[Checkpoint, ...]:
    """Those in the journal, and those of plain TensorFlow that a start adopts, as it takes them over."""
    with suppress(ObjectMissing):
        # Raises CorruptData where it is garbage: find_adoptable would set it aside, and this writes nothing.
        parse_state(read_state(storage))
    state, now = load(storage).state, time.time()
    known = {each.name for each in state.live} | {each.checkpoint.name for each in state.quarantined}
    return foresee_live(state, find_adoptable(storage, directory, frozenset(known), now), now)


def _pruned(live: tuple[Checkpoint, ...], names: Collection[str], leased: Collection[str]) -> Pruned:
    removed = tuple(each for each in live if each.name in names)
    kept = tuple(each for each in live if each.name not in names)
    return Pruned(removed, kept, frozenset(each.name for each in kept if each.name in leased))
