"""A follower sees what the journal says, however long it did not look."""

from __future__ import annotations

from typing import Any

import pytest

from distckpt.journal import following, names
from distckpt.journal.following import Follower
from distckpt.journal.reading import load
from distckpt.journal.records import CommitRecord, RetireRecord
from distckpt.storage.memory import MemoryStorage


def write(journal: Any, checkpoint: Any, steps: range) -> None:
    """Commits `steps`, keeping one, and compacts whenever that is due."""
    for step in steps:
        journal.append(CommitRecord(checkpoint(step, journal.state.generation)))
        if len(journal.state.live) > 1:
            journal.append(RetireRecord((journal.state.live[0].name,)))
        journal.compact()


def test_it_sees_a_journal_begin(storage: MemoryStorage, begin: Any) -> None:
    follower = Follower(storage)
    assert follower.look().slot == 0
    begin(storage)
    assert follower.look().generation == 1


def test_it_sees_each_record_and_the_next_generation_without_reading_all_again(
    storage: MemoryStorage, begin: Any, checkpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = begin(storage)
    follower = Follower(storage)
    follower.look()
    monkeypatch.setattr(following, "load", None)
    for step in range(1, 30):
        write(journal, checkpoint, range(step, step + 1))
        assert follower.look() == load(storage).state
    begin(storage)
    assert follower.look().generation == 2


@pytest.mark.parametrize("missed", range(1, 40))
def test_it_sees_the_truth_after_what_it_missed_was_compacted_away(
    missed: int, storage: MemoryStorage, begin: Any, checkpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "INTERVAL", 4)
    journal = begin(storage)
    write(journal, checkpoint, range(1, 4))
    follower = Follower(storage)
    follower.look()
    write(journal, checkpoint, range(4, 4 + missed))
    if missed % 3 == 0:
        begin(storage)
    assert follower.look() == load(storage).state
