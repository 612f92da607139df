"""A survivor takes a directory over to commit what it has, unless that would go back behind what is committed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from distckpt.commit.succession import Succession
from distckpt.errors import SaveAborted
from distckpt.journal.log import Journal
from distckpt.journal.process import this_process
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
