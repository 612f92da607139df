"""Who may write, what a writer learns when it may not, and what it does when the storage will not say."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

from distckpt.errors import (
    CorruptJournal,
    DirectoryInUse,
    Fenced,
    OutcomeUnknown,
    StorageError,
    StorageNoSpace,
)
from distckpt.journal import log
from distckpt.journal.log import Journal
from distckpt.journal.names import slot_key
from distckpt.journal.records import CommitRecord, Process, RetireRecord
from distckpt.journal.state import JournalState
from distckpt.model import Checkpoint
from distckpt.storage.memory import MemoryStorage

Begin = Callable[..., Journal]
Make = Callable[..., Checkpoint]


def test_a_directory_without_a_journal_has_an_empty_one(storage: MemoryStorage) -> None:
    assert Journal.open(storage).state == JournalState()
    assert storage.keys("") == [], "and reading makes none"


def test_generations_count_from_one_and_are_told(storage: MemoryStorage, begin: Begin) -> None:
    begin(storage, host="first")
    state = begin(storage, host="second", pid=7).state
    assert state.generation == 2
    assert state.begun is not None
    assert (state.begun.process, state.begun.world, state.begun.timestamp) == (
        Process("second", 7),
        ("a:1", "b:2"),
        1.5,
    )
    assert Journal.open(storage).state == state


def test_what_was_appended_is_read_by_all(storage: MemoryStorage, begin: Begin, checkpoint: Make) -> None:
    journal = begin(storage)
    for step in (1, 2):
        journal.append(CommitRecord(checkpoint(step)))
    journal.append(RetireRecord(("ckpt-1",)))
    assert journal.state.live == (checkpoint(2),)
    assert Journal.open(storage).state == journal.state
    assert journal.state.slot == 4


def test_a_zombie_learns_who_has_taken_over_and_never_writes_again(
    storage: MemoryStorage, begin: Begin, checkpoint: Make
) -> None:
    zombie = begin(storage, host="old")
    successor = begin(storage, job="job-7", host="new-host", pid=4711)
    told = r"generation 2 of job job-7.*generation 1 \(pid 4711 on new-host\)"
    with pytest.raises(Fenced, match=told):
        zombie.append(CommitRecord(checkpoint(1)))
    keys = storage.keys("")
    for again in (lambda: zombie.append(CommitRecord(checkpoint(1))), zombie.check_fence, zombie.settle):
        with pytest.raises(Fenced, match=told):
            again()
    assert storage.keys("") == keys
    assert zombie.state.live == ()
    successor.append(CommitRecord(checkpoint(1, generation=2)))


def test_the_fence_is_noticed_without_writing(storage: MemoryStorage, begin: Begin) -> None:
    journal = begin(storage)
    journal.check_fence()
    begin(storage)
    with pytest.raises(Fenced):
        journal.check_fence()


def test_a_record_that_cannot_follow_is_refused_before_it_is_written(
    storage: MemoryStorage, begin: Begin, checkpoint: Make
) -> None:
    journal = begin(storage)
    for record in (RetireRecord(("ckpt-1",)), CommitRecord(checkpoint(1, generation=2))):
        with pytest.raises(ValueError, match="cannot be appended"):
            journal.append(record)
    journal.append(CommitRecord(checkpoint(1)))
    assert journal.state.slot == 2


def test_who_wants_to_begin_is_asked_about_exactly_what_it_would_follow(
    storage: MemoryStorage, begin: Begin, checkpoint: Make
) -> None:
    """A state that grew old while it was looked at is looked at again."""
    holder = begin(storage)
    seen: list[JournalState] = []

    def admit(state: JournalState) -> None:
        if not seen:
            holder.append(CommitRecord(checkpoint(1)))
        elif len(seen) == 1:
            begin(storage, host="faster")
        seen.append(state)

    journal = Journal.open(storage)
    generation = journal.begin(job="job", process=Process("h", 1), world=(), timestamp=0.0, admit=admit)
    assert [(state.slot, state.generation) for state in seen] == [(1, 1), (2, 1), (3, 2)]
    assert generation == 3
    assert journal.state.live == (checkpoint(1),)


def test_who_is_not_admitted_leaves_no_trace(storage: MemoryStorage, begin: Begin) -> None:
    holder = begin(storage)

    def refuse(state: JournalState) -> None:
        raise DirectoryInUse("held")

    with pytest.raises(DirectoryInUse, match="held"):
        Journal.open(storage).begin(job="other", process=Process("h", 1), world=(), timestamp=0.0, admit=refuse)
    holder.check_fence()


def test_who_is_always_overtaken_gives_up_with_an_error(
    storage: MemoryStorage, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "BEGIN_ATTEMPTS", 3)
    with pytest.raises(DirectoryInUse, match="3 times"):
        Journal.open(storage).begin(
            job="job", process=Process("h", 1), world=(), timestamp=0.0, admit=lambda state: begin(storage)
        )


# --------------------------------------------------------------------------------------------------- unclear outcomes


def test_an_append_whose_answer_is_lost_is_settled_by_reading_it_back(
    storage: MemoryStorage, begin: Begin, checkpoint: Make, faulty: ModuleType
) -> None:
    for hooks in ({"after": faulty.at(1, OutcomeUnknown("lost"))}, {"before": faulty.at(1, OutcomeUnknown("lost"))}):
        own = MemoryStorage()
        journal = begin(faulty.FaultyStorage(own, **hooks))
        journal.append(CommitRecord(checkpoint(1)))
        assert Journal.open(own).state == journal.state
        assert journal.state.live == (checkpoint(1),)


def test_an_append_that_surely_failed_changes_nothing_and_may_be_tried_again(
    storage: MemoryStorage, begin: Begin, checkpoint: Make, faulty: ModuleType
) -> None:
    journal = begin(faulty.FaultyStorage(storage, before=faulty.at(1, StorageNoSpace("full"))))
    with pytest.raises(StorageNoSpace):
        journal.append(CommitRecord(checkpoint(1)))
    assert journal.state.live == Journal.open(storage).state.live == ()
    journal.append(CommitRecord(checkpoint(2)))
    assert Journal.open(storage).state.live == (checkpoint(2),)


class Unreadable(MemoryStorage):
    """Loses the answer to every write, and cannot be read, while `dark`."""

    dark = False
    does_it = True

    def put_if_absent(self, key: str, data: bytes) -> bool:
        created = super().put_if_absent(key, data) if self.does_it or not self.dark else False
        if self.dark:
            raise OutcomeUnknown("no answer")
        return created

    def read_at(self, key: str, offset: int, length: int) -> bytes:
        if self.dark:
            raise StorageError("no answer", key)
        return super().read_at(key, offset, length)


@pytest.mark.parametrize("does_it", [True, False])
def test_what_cannot_be_known_is_said_and_finished_by_the_next_call(
    begin: Begin, checkpoint: Make, *, does_it: bool
) -> None:
    storage = Unreadable()
    journal = begin(storage)
    storage.dark, storage.does_it = True, does_it
    for attempt in (lambda: journal.append(CommitRecord(checkpoint(1))), journal.settle, journal.check_fence):
        with pytest.raises(OutcomeUnknown, match=slot_key(2)):
            attempt()
    assert journal.state.live == (), "not said to be there before it is known"
    storage.dark = False
    journal.append(CommitRecord(checkpoint(2)))
    assert journal.state.live == (checkpoint(1), checkpoint(2)), "the first was not forgotten, and comes first"
    assert Journal.open(storage).state == journal.state


@pytest.mark.parametrize("does_it", [True, False])
def test_what_was_unknown_when_another_took_over_is_in_the_history_or_fenced(
    begin: Begin, checkpoint: Make, *, does_it: bool
) -> None:
    storage = Unreadable()
    journal = begin(storage)
    storage.dark, storage.does_it = True, does_it
    with pytest.raises(OutcomeUnknown):
        journal.append(CommitRecord(checkpoint(1)))
    storage.dark = False
    successor = begin(storage)
    assert successor.state.live == ((checkpoint(1),) if does_it else ())
    if does_it:
        journal.settle()
    with pytest.raises(Fenced):
        journal.settle() if not does_it else journal.append(CommitRecord(checkpoint(2)))
    assert Journal.open(storage).state == successor.state


def test_killed_at_any_operation_a_successor_finds_a_whole_journal(
    begin: Begin, checkpoint: Make, faulty: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log.names, "INTERVAL", 4)

    def work(storage: object) -> list[str]:
        """What was acknowledged when the process died."""
        acknowledged: list[str] = []
        try:
            journal = begin(storage)
            for step in range(12):
                journal.append(CommitRecord(checkpoint(step)))
                acknowledged.append(f"ckpt-{step}")
                journal.compact()
        except faulty.Crash:
            pass
        return acknowledged

    whole = faulty.FaultyStorage(MemoryStorage())
    assert len(work(whole)) == 12
    assert {operation for operation, _ in whole.operations} == {"put_if_absent", "put", "delete"}
    for moment in ("before", "after"):
        for number in range(len(whole.operations)):
            storage = MemoryStorage()
            acknowledged = work(faulty.FaultyStorage(storage, **{moment: faulty.at(number, faulty.Crash())}))
            live = [each.name for each in begin(storage).state.live]
            assert live[: len(acknowledged)] == acknowledged
            assert len(live) <= len(acknowledged) + 1


# ---------------------------------------------------------------------------------------------------------- corruption


def test_a_corrupt_slot_is_named_and_nothing_is_written_over_it(
    storage: MemoryStorage, begin: Begin, checkpoint: Make
) -> None:
    journal = begin(storage)
    journal.append(CommitRecord(checkpoint(1)))
    storage.put(slot_key(2), b"garbage")
    for attempt in (lambda: Journal.open(storage), lambda: begin(storage)):
        with pytest.raises(CorruptJournal, match=slot_key(2)):
            attempt()
    storage.put(slot_key(3), b"garbage")
    with pytest.raises(CorruptJournal, match=slot_key(3)):
        journal.append(CommitRecord(checkpoint(2)))
    assert storage.read(slot_key(3)) == b"garbage"


def test_two_writers_of_one_generation_are_found_out(storage: MemoryStorage, begin: Begin, checkpoint: Make) -> None:
    """It cannot happen but by a copy of the directory or a broken storage: then it is said, and nobody goes on."""
    journal = begin(storage)
    twin = Journal.open(storage)
    twin._generation = 1
    journal.append(CommitRecord(checkpoint(1)))
    with pytest.raises(CorruptJournal, match="another process in generation 1"):
        twin.append(CommitRecord(checkpoint(2)))


def test_a_copied_slot_is_found_out(storage: MemoryStorage, begin: Begin, checkpoint: Make) -> None:
    begin(storage).append(CommitRecord(checkpoint(1)))
    storage.put(slot_key(3), storage.read(slot_key(2)))
    with pytest.raises(CorruptJournal, match="it says slot 2, after 2"):
        Journal.open(storage)


def test_strangers_in_the_journals_folder_are_left_alone(storage: MemoryStorage, begin: Begin) -> None:
    for name in ("README", "snapshot-1.json", "0000000000000001.json.bak", "sub/0000000000000001.json"):
        storage.put(f".distckpt/journal/{name}", b"?")
    assert begin(storage).state.generation == 1
