"""A chief frozen before or after any operation of a commit, which wakes after its successor has committed.

The worst case above all: the job was rolled back, and the successor commits the same step numbers again. Whatever the
zombie then renames, rewrites or deletes, what was acknowledged is whole after the successor's next commit, and after
the next start.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from typing import Any

import pytest

from distckpt.bundle.statefile import parse_state
from distckpt.commit.verification import under_own_names
from distckpt.errors import DistckptError, ObjectMissing
from distckpt.journal.log import Journal
from distckpt.storage.memory import MemoryStorage


class Freezer:
    """A hook that, at the `number`-th operation, lets the successor live until the zombie goes on."""

    def __init__(self, number: int, storage: MemoryStorage, new_chief: Any, steps: tuple[int, ...]) -> None:
        self.number = number
        self.heir: Any = None
        self._life = (storage, new_chief, steps)
        self._calls = 0

    def __call__(self, _operation: str, _key: str) -> None:
        self._calls += 1
        if self._calls == self.number + 1:
            storage, new_chief, steps = self._life
            self.heir = new_chief(storage)
            for step in steps:
                self.heir.commit(step, 10.0 * step)


@pytest.mark.parametrize("steps", [(1,), (2,), (2, 1), (3,)], ids=str)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_zombie_loses_nothing_that_its_successor_acknowledged(
    moment: str, steps: tuple[int, ...], faulty: Any, new_chief: Any, values_in: Any
) -> None:
    harmed = 0
    for number in count():
        storage = MemoryStorage()
        zombie = new_chief(storage, keep=1)
        zombie.commit(1, 1.0)
        freezer = Freezer(number, storage, new_chief, steps)
        zombie.storage = zombie.committer.storage = zombie.journal._storage = faulty.FaultyStorage(
            storage, **{moment: freezer}
        )
        with suppress(DistckptError):
            zombie.commit(2, 2.0)
        if freezer.heir is None:
            break
        expected = {step: 10.0 * step for step in steps} | {9: 9.0}
        harmed += not all_published(storage)
        found = values_in(storage, own_names=True)
        assert {step: found[step] for step in steps} == {step: 10.0 * step for step in steps}, "a restore reads it now"
        freezer.heir.commit(9, 9.0)
        found = values_in(storage)
        assert {step: found[step] for step in expected} == expected
        assert parse_state(storage.read("checkpoint")).model_checkpoint_path == "ckpt-9"
        new_chief(storage)
        assert values_in(storage) == found
        assert all_published(storage)
    assert number > 12, "every operation of a commit was tried"
    assert harmed or moment == "after" or steps == (3,), "no zombie did any harm: this test shows nothing"


@pytest.mark.parametrize("moment", ["before", "after"])
def test_what_a_zombie_harmed_is_healed_by_the_next_start_alone(
    moment: str, faulty: Any, new_chief: Any, values_in: Any
) -> None:
    for number in count():
        storage = MemoryStorage()
        zombie = new_chief(storage, keep=1)
        zombie.commit(1, 1.0)
        freezer = Freezer(number, storage, new_chief, (2, 1))
        zombie.storage = zombie.committer.storage = zombie.journal._storage = faulty.FaultyStorage(
            storage, **{moment: freezer}
        )
        with suppress(DistckptError):
            zombie.commit(2, 2.0)
        if freezer.heir is None:
            return
        new_chief(storage)
        found = values_in(storage)
        assert (found[1], found[2]) == (10.0, 20.0)


def two_that_lost_their_indexes(new_chief: Any) -> tuple[MemoryStorage, str, str]:
    """Two checkpoints whose visible indexes a zombie took away; their manifests' sha256."""
    storage = MemoryStorage()
    chief = new_chief(storage)
    for step in (1, 2):
        chief.commit(step, float(step))
    for step in (1, 2):  # not before: each commit heals
        storage.delete(f"ckpt-{step}.index")
    first, second = (each.manifest_sha256 for each in chief.journal.state.live)
    return storage, first, second


def test_what_is_restored_is_read_under_its_own_names_and_nothing_else_is(new_chief: Any) -> None:
    storage, first, second = two_that_lost_their_indexes(new_chief)
    reading = under_own_names(storage, "ckpt-1", first)
    assert reading.read("ckpt-1.index")
    for other in (reading, under_own_names(storage, "ckpt-2", first)):
        with pytest.raises(ObjectMissing):
            other.read("ckpt-2.index")
    assert under_own_names(storage, "ckpt-2", second).read("ckpt-2.index")


def test_only_who_is_to_heal_what_is_restored_does(new_chief: Any) -> None:
    storage, first, _ = two_that_lost_their_indexes(new_chief)
    under_own_names(storage, "ckpt-1", first)
    assert "ckpt-1.index" not in storage.keys("")
    under_own_names(storage, "ckpt-1", first, healing=True)
    assert "ckpt-1.index" in storage.keys("")
    assert "ckpt-2.index" not in storage.keys(""), "it is not what is restored"


def test_without_their_own_names_files_are_read_under_their_visible_ones(new_chief: Any) -> None:
    """A copy of the directory without its hidden folder."""
    storage = MemoryStorage()
    chief = new_chief(storage)
    chief.commit(1, 1.0)
    (checkpoint,) = chief.journal.state.live
    for file in checkpoint.files:
        storage.discard(file.handle)
    reading = under_own_names(storage, "ckpt-1", checkpoint.manifest_sha256, healing=True)
    assert reading.read("ckpt-1.index") == storage.read("ckpt-1.index")


def test_an_adopted_one_is_read_under_the_only_names_that_it_has(new_chief: Any) -> None:
    storage, copy = MemoryStorage(), MemoryStorage()
    new_chief(storage).commit(1, 1.0)
    for key in storage.keys(""):
        if not key.startswith(".distckpt"):
            copy.put(key, storage.read(key))
    (checkpoint,) = new_chief(copy).journal.state.live
    assert checkpoint.adopted
    reading = under_own_names(copy, "ckpt-1", checkpoint.manifest_sha256, healing=True)
    assert reading.read("ckpt-1.index") == storage.read("ckpt-1.index")


def all_published(storage: MemoryStorage) -> bool:
    live = Journal.open(storage).state.live
    return all(storage.is_published(file.handle, file.name) for checkpoint in live for file in checkpoint.files)
