"""What is deleted, what never is, and what is left to fall back on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from distckpt.errors import CorruptJournal, Fenced
from distckpt.journal.log import Journal
from distckpt.journal.names import INTERVAL, JOURNAL, slot_key, slots_among, snapshot_key, snapshots_among
from distckpt.journal.reading import read_snapshot
from distckpt.journal.records import CommitRecord, RetireRecord
from distckpt.model import Checkpoint
from distckpt.storage.memory import MemoryStorage
from distckpt.storage.posix import PosixStorage

Begin = Callable[..., Journal]
Make = Callable[..., Checkpoint]


def fill(journal: Journal, checkpoint: Make, commits: int, *, compact: bool = True) -> None:
    """Commits with retention, keeping two."""
    first = journal.state.slot
    for step in range(first, first + commits):
        journal.append(CommitRecord(checkpoint(step, generation=journal.state.generation)))
        if len(journal.state.live) > 2:
            journal.append(RetireRecord((journal.state.live[0].name,)))
        if compact:
            journal.compact()


def slots(storage: MemoryStorage) -> list[int]:
    return slots_among(storage.keys(JOURNAL))


def snapshots(storage: MemoryStorage) -> list[int]:
    return snapshots_among(storage.keys(JOURNAL))


def test_compaction_keeps_two_snapshots_and_the_slots_after_the_older(
    storage: MemoryStorage, begin: Begin, checkpoint: Make
) -> None:
    journal = begin(storage)
    fill(journal, checkpoint, 3 * INTERVAL)
    older, newer = snapshots(storage)
    assert newer - older >= INTERVAL
    assert journal.state.slot - newer < INTERVAL
    kept = slots(storage)
    assert set(range(older + 1, journal.state.slot + 1)) <= set(kept)
    others = [slot for slot in kept if slot <= older - INTERVAL]
    assert others == [1, *range(INTERVAL, older - INTERVAL + 1, INTERVAL)], "the generation's slot and the milestones"
    assert Journal.open(storage).state == journal.state


def test_nothing_is_compacted_before_it_is_due(storage: MemoryStorage, begin: Begin, checkpoint: Make) -> None:
    journal = begin(storage)
    fill(journal, checkpoint, 50)
    assert journal.compact() is False
    assert snapshots(storage) == []


def test_a_zombie_is_fenced_however_much_was_compacted_since(
    storage: MemoryStorage, begin: Begin, checkpoint: Make
) -> None:
    zombies = [begin(storage, pid=number) for number in range(3)]
    fill(begin(storage), checkpoint, 3 * INTERVAL)
    before = storage.keys("")
    for number, zombie in enumerate(zombies, start=1):
        with pytest.raises(Fenced, match=f"generation {number + 1} "):
            zombie.append(CommitRecord(checkpoint(1, generation=number)))
    assert storage.keys("") == before


def test_a_start_that_slept_through_a_compaction_begins_again(
    storage: MemoryStorage, begin: Begin, checkpoint: Make
) -> None:
    """It finds its slot empty, because what stood there was deleted: and must not believe it."""
    holder = begin(storage)
    fill(holder, checkpoint, 10, compact=False)
    asked = []

    def sleep(state: object) -> None:
        if not asked:
            fill(holder, checkpoint, 3 * INTERVAL)
        asked.append(state)

    late = Journal.open(storage)
    slot = late.state.slot + 1
    process = holder.state.begun
    assert process is not None
    generation = late.begin(job="job", process=process.process, world=(), timestamp=0.0, admit=sleep)
    assert slot in slots(storage), "it did write there"
    assert (len(asked), generation, late.state.live) == (2, 2, holder.state.live)
    assert Journal.open(storage).state == late.state
    with pytest.raises(Fenced):
        holder.check_fence()


def test_a_corrupt_newest_snapshot_falls_back_on_the_one_before(
    storage: MemoryStorage, begin: Begin, checkpoint: Make
) -> None:
    journal = begin(storage)
    fill(journal, checkpoint, 2 * INTERVAL)
    older, newest = snapshots(storage)
    whole = bytearray(storage.read(snapshot_key(newest)))
    whole[len(whole) // 2] ^= 1
    storage.put(snapshot_key(newest), bytes(whole))
    assert Journal.open(storage).state == journal.state
    successor = begin(storage)
    fill(successor, checkpoint, 2 * INTERVAL)
    assert Journal.open(storage).state == successor.state
    assert older not in snapshots(storage)


def test_with_a_corrupt_snapshot_nothing_is_deleted_that_the_good_one_needs(
    storage: MemoryStorage, begin: Begin, checkpoint: Make
) -> None:
    journal = begin(storage)
    fill(journal, checkpoint, 2 * INTERVAL)
    older, newest = snapshots(storage)
    storage.put(snapshot_key(newest), b"garbage")
    while journal.state.slot < newest + INTERVAL:
        fill(journal, checkpoint, 1)
    assert len(snapshots(storage)) == 3
    assert set(range(older + 1, journal.state.slot + 1)) <= set(slots(storage))
    storage.put(snapshot_key(snapshots(storage)[-1]), b"garbage too")
    assert Journal.open(storage).state == journal.state


def test_when_all_snapshots_are_corrupt_it_is_said_which_and_what_is_missing(
    storage: MemoryStorage, begin: Begin, checkpoint: Make
) -> None:
    journal = begin(storage)
    fill(journal, checkpoint, 2 * INTERVAL)
    for slot in snapshots(storage):
        storage.put(snapshot_key(slot), b"garbage")
    with pytest.raises(CorruptJournal, match=f"{slot_key(2)}: is missing, though slot {INTERVAL} exists.*snapshot-"):
        Journal.open(storage)


def test_a_snapshot_under_a_wrong_number_is_not_believed(
    storage: MemoryStorage, begin: Begin, checkpoint: Make
) -> None:
    journal = begin(storage)
    fill(journal, checkpoint, INTERVAL)
    (slot,) = snapshots(storage)
    storage.put(snapshot_key(slot + 10), storage.read(snapshot_key(slot)))
    assert Journal.open(storage).state == journal.state


def test_opening_reads_no_more_however_long_the_history_is(tmp_path: Path, begin: Begin, checkpoint: Make) -> None:
    storage = CountingMemory()
    journal = begin(storage)
    fill(journal, checkpoint, 4_000)
    storage.reads = 0
    assert Journal.open(storage).state == journal.state
    assert storage.reads <= INTERVAL + 2, "one snapshot, and fewer slots than lie between two"
    assert len(slots(storage)) < 4 * INTERVAL
    posix = PosixStorage.create(tmp_path / "job")
    for key in storage.keys(""):
        posix.put(key, storage.read(key))
    assert Journal.open(posix).state == journal.state


class CountingMemory(MemoryStorage):
    reads = 0

    def read_at(self, key: str, offset: int, length: int) -> bytes:
        self.reads += 1
        return super().read_at(key, offset, length)


def test_a_snapshot_under_another_ones_name_is_not_believed(begin: Begin, checkpoint: Make) -> None:
    storage = MemoryStorage()
    journal = begin(storage)
    fill(journal, checkpoint, 3 * INTERVAL)
    older, newest = snapshots(storage)
    storage.put(snapshot_key(newest), storage.read(snapshot_key(older)))
    with pytest.raises(CorruptJournal, match=f"holds the state after slot {older}"):
        read_snapshot(storage, newest)
    assert Journal.open(storage).state == journal.state
