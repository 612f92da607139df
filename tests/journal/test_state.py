"""The fold: what follows from a sequence of records, and which sequences cannot be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest

from distckpt.errors import CorruptJournal
from distckpt.journal.records import (
    AdoptRecord,
    CommitRecord,
    Entry,
    GenerationRecord,
    PreserveRecord,
    Process,
    QuarantineRecord,
    Record,
    RetireRecord,
)
from distckpt.journal.state import REMEMBERED_FILES_MAX, REMEMBERED_MAX, JournalState, apply
from distckpt.model import Checkpoint, FileRecord

Make = Callable[..., Checkpoint]


def fold(*records: Record, state: JournalState | None = None) -> JournalState:
    """Every record as of the generation that is then current."""
    state = state or JournalState()
    for record in records:
        generation = record.generation if isinstance(record, GenerationRecord) else state.generation
        state = apply(state, Entry(state.slot + 1, generation, "nonce", record))
    return state


def starts(generation: int) -> GenerationRecord:
    return GenerationRecord(generation, "job", f"start{generation}", Process("host", generation), ("a:1",), 1.0)


def test_commits_are_live_in_their_order(checkpoint: Make, names_of: SimpleNamespace) -> None:
    state = fold(starts(1), CommitRecord(checkpoint(2)), CommitRecord(checkpoint(1)), starts(2))
    assert names_of.live(state) == ["ckpt-2", "ckpt-1"]
    assert (state.slot, state.generation, state.begun) == (4, 2, starts(2))


def test_a_recommit_replaces_and_becomes_the_newest(checkpoint: Make, names_of: SimpleNamespace) -> None:
    again = checkpoint(1, timestamp=9.0)
    state = fold(starts(1), CommitRecord(checkpoint(1)), CommitRecord(checkpoint(2)), CommitRecord(again))
    assert state.live == (checkpoint(2), again)
    assert names_of.retired(state) == [], "its files are the new one's"


def test_files_that_a_recommit_does_not_have_are_left_to_be_deleted(checkpoint: Make) -> None:
    state = fold(starts(1), CommitRecord(checkpoint(1, shards=2)), CommitRecord(checkpoint(1, shards=1)))
    (left,) = state.retired
    assert [file.name for file in left.files] == ["ckpt-1.data-00000-of-00002", "ckpt-1.data-00001-of-00002"]


def test_a_file_of_a_live_checkpoint_is_never_among_those_to_be_deleted(checkpoint: Make) -> None:
    state = fold(
        starts(1),
        CommitRecord(checkpoint(1)),
        CommitRecord(checkpoint(2)),
        RetireRecord(("ckpt-1",)),
        CommitRecord(checkpoint(1)),
        QuarantineRecord("ckpt-1", "bad"),
        CommitRecord(checkpoint(1)),
    )
    assert state.retired == ()
    assert state.quarantined == ()
    assert state.live == (checkpoint(2), checkpoint(1))


def test_what_is_retired_or_quarantined_is_live_no_more(checkpoint: Make, names_of: SimpleNamespace) -> None:
    commits = [CommitRecord(checkpoint(step)) for step in range(1, 5)]
    state = fold(starts(1), *commits, RetireRecord(("ckpt-3", "ckpt-1")), QuarantineRecord("ckpt-4", "a bit flipped"))
    assert names_of.live(state) == ["ckpt-2"]
    assert names_of.retired(state) == ["ckpt-1", "ckpt-3"]
    assert [(each.checkpoint, each.reason) for each in state.quarantined] == [(checkpoint(4), "a bit flipped")]


def test_adopted_checkpoints_are_live_from_the_adoption_on(checkpoint: Make, names_of: SimpleNamespace) -> None:
    old = [checkpoint(step, generation=0, manifest_sha256="") for step in (1, 2)]
    state = fold(starts(1), CommitRecord(checkpoint(3)), AdoptRecord(tuple(old)))
    assert names_of.live(state) == ["ckpt-3", "ckpt-1", "ckpt-2"]
    assert state.live[1].adopted


def test_what_was_retired_is_remembered_in_bounds_but_never_less_than_the_last_record(checkpoint: Make) -> None:
    many = REMEMBERED_MAX * 3
    commits = [CommitRecord(checkpoint(step)) for step in range(many)]
    one_by_one = fold(starts(1), *commits, *(RetireRecord((f"ckpt-{step}",)) for step in range(many)))
    assert [each.step for each in one_by_one.retired] == list(range(many - REMEMBERED_MAX, many))
    at_once = fold(starts(1), *commits, RetireRecord(tuple(f"ckpt-{step}" for step in range(many))))
    assert len(at_once.retired) == many


def test_of_checkpoints_of_many_files_fewer_are_remembered_but_one_always(checkpoint: Make) -> None:
    def large(step: int, files: int) -> Checkpoint:
        records = tuple(FileRecord(f"ckpt-{step}.data-{number}", 1) for number in range(files))
        return replace(checkpoint(step), files=records)

    def remembered(*files: int) -> list[int]:
        commits = [CommitRecord(large(step, count)) for step, count in enumerate(files)]
        retirements = [RetireRecord((f"ckpt-{step}",)) for step in range(len(files))]
        return [each.step for each in fold(starts(1), *commits, *retirements).retired]

    assert remembered(1, REMEMBERED_FILES_MAX - 2, 2) == [1, 2]
    assert remembered(2, REMEMBERED_FILES_MAX - 2, 2, 1) == [2, 3]
    assert remembered(1, REMEMBERED_FILES_MAX + 1) == [1]


def test_a_commit_forgets_what_a_large_retirement_left(checkpoint: Make) -> None:
    many = REMEMBERED_MAX + 2
    commits = [CommitRecord(checkpoint(step)) for step in range(many)]
    state = fold(starts(1), *commits, RetireRecord(tuple(f"ckpt-{step}" for step in range(many))))
    assert [each.step for each in fold(CommitRecord(checkpoint(many)), state=state).retired] == list(range(2, many))


def test_what_is_preserved_stays_in_its_place_and_is_not_active(checkpoint: Make, names_of: SimpleNamespace) -> None:
    commits = [CommitRecord(checkpoint(step)) for step in range(1, 4)]
    state = fold(starts(1), *commits, PreserveRecord(("ckpt-3", "ckpt-1")), starts(2))
    assert names_of.live(state) == ["ckpt-1", "ckpt-2", "ckpt-3"]
    assert [each.preserved for each in state.live] == [True, False, True]
    assert [each.name for each in state.active] == ["ckpt-2"]
    assert state.retired == ()


def test_a_preserved_one_that_is_committed_again_is_active_again(checkpoint: Make) -> None:
    state = fold(starts(1), CommitRecord(checkpoint(1)), PreserveRecord(("ckpt-1",)), CommitRecord(checkpoint(1)))
    assert state.active == state.live == (checkpoint(1),)


def test_a_preserved_one_that_is_corrupt_is_set_aside(checkpoint: Make) -> None:
    state = fold(starts(1), CommitRecord(checkpoint(1)), PreserveRecord(("ckpt-1",)), QuarantineRecord("ckpt-1", "bad"))
    assert state.live == ()


def test_nothing_retires_or_preserves_a_preserved_one(checkpoint: Make) -> None:
    state = fold(starts(1), CommitRecord(checkpoint(1)), CommitRecord(checkpoint(2)), PreserveRecord(("ckpt-1",)))
    for record in (
        RetireRecord(("ckpt-1",)),
        RetireRecord(("ckpt-1", "ckpt-2")),
        PreserveRecord(("ckpt-1",)),
        PreserveRecord(("ckpt-2", "ckpt-2")),
        PreserveRecord(("ckpt-7",)),
    ):
        with pytest.raises(CorruptJournal, match="ckpt-"):
            fold(record, state=state)


def test_illegal_sequences_are_corrupt_and_name_the_slot(checkpoint: Make) -> None:
    begun = fold(starts(1), CommitRecord(checkpoint(1)))
    illegal: list[tuple[int, int, Record, str]] = [
        (3, 2, CommitRecord(checkpoint(2, generation=2)), "generation 2 in generation 1"),
        (3, 0, CommitRecord(checkpoint(2, generation=0)), "generation 0 in generation 1"),
        (3, 1, CommitRecord(checkpoint(2, generation=2)), "ckpt-2 is of generation 2"),
        (3, 1, starts(1), "generation 1 begins after generation 1"),
        (3, 3, starts(3), "generation 3 begins after generation 1"),
        (3, 2, starts(3), "begins after"),
        (3, 1, RetireRecord(("ckpt-7",)), "it retires ckpt-7"),
        (3, 1, RetireRecord(("ckpt-1", "ckpt-1")), "each once"),
        (3, 1, QuarantineRecord("ckpt-7", "bad"), "it quarantines ckpt-7"),
        (3, 1, AdoptRecord((checkpoint(5),)), "it adopts ckpt-5, which has a manifest"),
        (4, 2, starts(2), "it says slot 4, after 2"),
        (2, 2, starts(2), "it says slot 2, after 2"),
    ]
    for slot, generation, record, told in illegal:
        with pytest.raises(CorruptJournal, match=told) as caught:
            apply(begun, Entry(slot, generation, "nonce", record))
        assert caught.value.path == f".distckpt/journal/{slot:016d}.json"


def test_nothing_but_a_generation_comes_first(checkpoint: Make) -> None:
    for generation in (0, 1):
        with pytest.raises(CorruptJournal):
            apply(JournalState(), Entry(1, generation, "nonce", CommitRecord(checkpoint(1, generation=generation))))


def test_the_fold_changes_no_state_that_it_was_given(checkpoint: Make) -> None:
    before = fold(starts(1), CommitRecord(checkpoint(1)))
    kept = replace(before)
    fold(CommitRecord(checkpoint(2)), RetireRecord(("ckpt-1",)), state=before)
    assert before == kept
