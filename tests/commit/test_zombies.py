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
from distckpt.errors import DistckptError
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


def all_published(storage: MemoryStorage) -> bool:
    live = Journal.open(storage).state.live
    return all(storage.is_published(file.handle, file.name) for checkpoint in live for file in checkpoint.files)
