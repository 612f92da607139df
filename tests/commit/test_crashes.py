"""A chief that dies, or whose storage fails, at any operation of a commit: nothing acknowledged is lost."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from distckpt.errors import DistckptError, OutcomeUnknown, StorageError, StorageNoSpace
from distckpt.journal.log import Journal
from distckpt.storage.memory import MemoryStorage


def indexes(storage: MemoryStorage) -> list[str]:
    return [key for key in storage.keys("") if key.endswith(".index") and not key.startswith(".")]


def assert_clean(storage: MemoryStorage, steps: list[int]) -> None:
    """What TensorFlow can see is what the journal says, and no file of anything else is left."""
    assert indexes(storage) == [f"ckpt-{step}.index" for step in steps]
    visible = [key for key in storage.keys("") if not key.startswith(".")]
    assert len(visible) == 4 * len(steps) + 1
    live = Journal.open(storage).state.live
    assert storage.staged() == sorted(file.handle for checkpoint in live for file in checkpoint.files)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_chief_that_dies_at_any_operation_of_a_commit_leaves_the_old_or_the_new_and_recovers(
    moment: str, faulty: Any, new_chief: Any, values_in: Any
) -> None:
    seen = set()
    for number in count():
        storage = MemoryStorage()
        chief = new_chief(storage, keep=2)
        chief.commit(1, 1.0)
        chief.commit(2, 2.0)
        broken = faulty.FaultyStorage(storage, **{moment: faulty.at(number, faulty.Crash())})
        chief.storage = chief.committer.storage = broken
        chief.journal._storage = broken
        try:
            chief.commit(3, 3.0)
        except faulty.Crash:
            acknowledged = False
        else:
            acknowledged = True
        new_chief(storage, keep=2)
        found = values_in(storage)
        steps = tuple(found)
        assert found == {step: float(step) for step in steps}
        assert steps in {(1, 2), (1, 2, 3), (2, 3)}
        assert not acknowledged or steps == (2, 3)
        assert_clean(storage, list(steps))
        seen.add(steps)
        if acknowledged:
            break
    assert seen == {(1, 2), (1, 2, 3), (2, 3)}


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_chief_that_dies_while_it_replaces_a_step_never_leaves_a_mixture(
    moment: str, faulty: Any, new_chief: Any, values_in: Any
) -> None:
    seen = set()
    for number in count():
        storage = MemoryStorage()
        new_chief(storage).commit(1, 1.0, workers=3)
        broken = faulty.FaultyStorage(storage, **{moment: faulty.at(number, faulty.Crash())})
        try:
            new_chief(broken).commit(1, 2.0, workers=2)
        except faulty.Crash:
            acknowledged = False
        else:
            acknowledged = True
        new_chief(storage)
        found = values_in(storage)[1]
        assert found in {1.0, 2.0}
        assert not acknowledged or found == 2.0
        data = [key for key in storage.keys("") if ".data-" in key]
        assert len(data) == (3 if found == 1.0 else 2)
        seen.add(found)
        if acknowledged:
            break
    assert seen == {1.0, 2.0}


def test_a_chief_that_dies_in_its_recovery_is_recovered_by_the_next(
    faulty: Any, new_chief: Any, values_in: Any
) -> None:
    def die_publishing(operation: str, key: str) -> None:
        if operation == "publish" and key == "ckpt-2.data-00000-of-00002":
            raise faulty.Crash

    for number in count():
        storage = MemoryStorage()
        chief = new_chief(storage, keep=1)
        chief.commit(1, 1.0)
        half = faulty.FaultyStorage(storage, after=die_publishing)
        chief.storage = chief.committer.storage = chief.journal._storage = half
        with pytest.raises(faulty.Crash):
            chief.commit(2, 2.0)
        broken = faulty.FaultyStorage(storage, after=faulty.at(number, faulty.Crash()))
        try:
            new_chief(broken, keep=1)
        except faulty.Crash:
            new_chief(storage, keep=1)
            assert 2 in values_in(storage)
        else:
            assert number > 3
            return


@pytest.mark.parametrize("error", [StorageError("EIO"), StorageNoSpace("ENOSPC")])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_storage_that_fails_once_costs_at_most_the_save(
    error: StorageError, moment: str, faulty: Any, new_chief: Any, values_in: Any
) -> None:
    for number in count():
        storage = MemoryStorage()
        chief = new_chief(storage, keep=2)
        chief.commit(1, 1.0)
        broken = faulty.FaultyStorage(storage, **{moment: faulty.at(number, error)})
        chief.storage = chief.committer.storage = chief.journal._storage = broken
        try:
            chief.commit(2, 2.0)
        except OutcomeUnknown:
            new_chief(storage, keep=2)
            assert values_in(storage) == {1: 1.0, 2: 2.0}
            continue
        except DistckptError:
            assert values_in(storage) == {1: 1.0}
        if len(broken.operations) <= number:
            break
        chief.commit(3, 3.0)
        assert values_in(storage)[3] == 3.0


def test_what_retention_could_not_delete_is_deleted_after_the_next_commit(faulty: Any, new_chief: Any) -> None:
    storage = MemoryStorage()
    chief = new_chief(storage, keep=1)
    chief.commit(1, 1.0)

    def no_deletes(operation: str, key: str) -> None:
        if operation == "delete" and key.startswith("ckpt-1."):
            raise StorageError("EACCES", key)

    chief.committer.storage = faulty.FaultyStorage(storage, before=no_deletes)
    assert chief.commit(2, 2.0) == ("ckpt-1",)
    assert any(key.startswith("ckpt-1.") for key in storage.keys(""))
    chief.committer.storage = storage
    chief.commit(3, 3.0)
    assert_clean(storage, [3])


def test_a_start_removes_how_earlier_workers_found_each_other_and_leaves_its_own(new_chief: Any) -> None:
    storage = MemoryStorage()
    new_chief(storage)
    before = [".distckpt/probe/1-0-older", ".distckpt/rendezvous/1-older"]
    own = [".distckpt/probe/2-0-own", ".distckpt/rendezvous/2-own"]
    for key in before + own:
        storage.put(key, b"")
    new_chief(storage)
    assert storage.keys(".distckpt/probe") + storage.keys(".distckpt/rendezvous") == own
