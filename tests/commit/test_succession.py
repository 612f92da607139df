"""A survivor takes a directory over to commit what it has, unless that would go back behind what is committed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from distckpt.commit.succession import Save, Succession, committed
from distckpt.errors import SaveAborted
from distckpt.journal.log import Journal
from distckpt.journal.process import this_process
from distckpt.model import Shard
from distckpt.protocol.retention import NO_PRESERVATION, KeepLatest
from distckpt.storage.memory import MemoryStorage


def succession(storage: MemoryStorage, generation: int) -> Succession:
    return Succession(
        storage, "job", generation, "/job", KeepLatest(None), NO_PRESERVATION, lambda _: frozenset(), lambda: 0.0
    )


@pytest.mark.parametrize("kept", [99, 100])
def test_a_snapshot_that_is_no_newer_than_the_last_commit_begins_no_generation(
    kept: int, new_chief: Callable[..., Any]
) -> None:
    storage = MemoryStorage()
    new_chief(storage).commit(100, 1.0)
    with pytest.raises(SaveAborted, match="ckpt-100 is committed already"):
        succession(storage, 1).begin(this_process(), newer_than=kept)
    assert Journal.open(storage).state.generation == 1


def test_a_newer_one_begins_the_next_generation(new_chief: Callable[..., Any]) -> None:
    storage = MemoryStorage()
    new_chief(storage).commit(100, 1.0)
    journal = succession(storage, 1).begin(this_process(), newer_than=101)
    assert journal is not None
    assert journal.state.generation == 2


def test_where_a_new_start_was_first_nothing_begins(new_chief: Callable[..., Any]) -> None:
    storage = MemoryStorage()
    new_chief(storage)
    new_chief(storage)
    assert succession(storage, 1).begin(this_process(), newer_than=101) is None


def test_what_the_chief_had_committed_is_not_written_again(new_chief: Callable[..., Any]) -> None:
    storage = MemoryStorage()
    new_chief(storage).commit(100, 1.0)
    heir = succession(storage, 1)
    journal = heir.begin(this_process())
    assert journal is not None

    def write(_: int) -> Shard:
        raise AssertionError("it is committed")

    made = heir.commit(journal, Save(1, 100, "ckpt-100", {}, ()), write)
    assert (made.name, made.generation) == ("ckpt-100", 1)


def test_a_survivors_commit_is_the_saves_and_that_of_a_new_start_is_not(new_chief: Callable[..., Any]) -> None:
    storage = MemoryStorage()
    new_chief(storage)
    heir = new_chief(storage)
    heir.commit(100, 1.0)
    state = heir.journal.state
    of_survivor = committed(state, "ckpt-100", 1)
    assert of_survivor is not None
    assert of_survivor.generation == 2
    start = replace(state.begun, world=("chief:1",))
    assert committed(replace(state, begun=start), "ckpt-100", 1) is None
