"""Workers that do not hold the same are found before the commit: the variable, both workers and the step are named."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from staged.stage import GENERATION, Stage

from distckpt.model import Check, DataFile, Entry, Extent, Piece, Shard, Sum
from distckpt.protocol import events
from distckpt.protocol.coordinator import Coordinator
from distckpt.protocol.cross_check import CrossCheck, differences, portion, watched
from distckpt.protocol.messages import Committed

WORKERS = 3


@given(st.integers(2, 40), st.integers(0, 10_000), st.sampled_from([1, 8]))
def test_on_each_turn_every_share_is_checked_by_one_other_worker(workers: int, turn: int, portions: int) -> None:
    shares = [watched(worker, workers, turn, portions) for worker in range(workers)]
    assert sorted(shares) == list(range(workers))
    assert all(share != worker for worker, share in enumerate(shares))


@given(st.integers(2, 12), st.integers(0, 10_000))
def test_each_worker_checks_all_portions_of_all_other_shares_in_turn(workers: int, first: int) -> None:
    turns = range(first, first + 8 * (workers - 1))
    checked = {(watched(0, workers, turn, 8), turn % 8) for turn in turns}
    assert len(checked) == 8 * (workers - 1)


@given(st.lists(st.integers(0, 5000), max_size=60), st.integers(0, 10_000))
def test_the_portions_of_a_share_are_all_of_it_and_no_larger_than_they_must_be(sizes: list[int], first: int) -> None:
    pieces = [Piece(f"t{n}", size) for n, size in enumerate(sizes)]
    portions = [portion(pieces, turn, 8) for turn in range(first, first + 8)]
    chosen = sorted(piece.tensor for pieces in portions for piece in pieces if piece.size_bytes)
    assert chosen == sorted(piece.tensor for piece in pieces if piece.size_bytes)
    most = sum(sizes) / 8 + max(sizes, default=0)
    assert all(sum(piece.size_bytes for piece in each) <= most + 1 for each in portions)


# --------------------------------------------------------------------------------------------------------- in the save


def entry(name: str, crc32c: int, start: int | None = None) -> Entry:
    part = None if start is None else (Extent(start, 2), Extent(0, 1))
    return Entry(name, 1, (4, 1), 0, 8, crc32c, part)


ENTRIES = {
    0: (entry("kernel", 10), entry("chief_only", 99)),
    1: (entry("embedding", 20, 0),),
    2: (entry("embedding", 21, 2), entry("bias", 22)),
}
EQUAL = {
    0: Check(1, (Sum("embedding", 0, 20),)),
    1: Check(2, (Sum("bias", 0, 22), Sum("embedding", 2, 21))),
    2: Check(0, (Sum("kernel", 0, 10),)),
}


def staged(mode: CrossCheck) -> Stage:
    """All have announced the save of step 100."""
    stage = Stage(WORKERS)
    stage.coordinator = Coordinator("digits", GENERATION, WORKERS, stage.coordinator._deadlines, (), cross_check=mode)
    stage.start_all()
    for worker in range(WORKERS):
        stage.save(worker)
    return stage


def write(stage: Stage, worker: int, check: Check | None) -> None:
    asked = stage.writes[worker].pop(0)
    shard = Shard(worker, f"1/{asked.round}-{asked.share}", 8, ENTRIES[asked.share])
    stage.happen(worker, events.ShareWritten(asked.round, asked.share, shard, check))


def write_all(stage: Stage, checks: dict[int, Check]) -> None:
    for worker in range(WORKERS):
        write(stage, worker, checks.get(worker))


DIFFERENT = EQUAL | {1: Check(2, (Sum("bias", 0, 22), Sum("embedding", 2, 77)))}


def warnings(stage: Stage) -> list[str]:
    return [line for line in stage.logged if "differ between workers" in line]


@pytest.mark.parametrize("mode", ["warn", "refuse", "off"])
def test_workers_that_hold_the_same_are_no_news(mode: CrossCheck) -> None:
    stage = staged(mode)
    write_all(stage, EQUAL)
    stage.commit()
    assert all(isinstance(stage.outcomes[worker][0], Committed) for worker in range(WORKERS))
    assert not warnings(stage)


def test_a_difference_is_told_with_variable_workers_and_step_and_is_committed() -> None:
    stage = staged("warn")
    write_all(stage, DIFFERENT)
    (told,) = warnings(stage)
    assert "save of step 100: mirrored variables differ between workers: embedding (workers 2 and 1)" in told
    stage.commit()
    assert isinstance(stage.outcomes[0][0], Committed)


def test_a_difference_that_is_to_be_refused_is_the_error_of_all_workers_and_leaves_nothing_behind() -> None:
    stage = staged("refuse")
    write_all(stage, DIFFERENT)
    assert not stage.commits
    for worker in range(WORKERS):
        cause = stage.cause(worker)
        assert (cause.kind, cause.worker) == ("ReplicasDiffer", 2)
        assert "step 100" in cause.message
        assert "embedding (workers 2 and 1)" in cause.message
    assert sorted(stage.discarded) == ["1/1-0", "1/1-1", "1/1-2"]


def test_the_next_save_begins_anew_after_one_was_refused() -> None:
    stage = staged("refuse")
    write_all(stage, DIFFERENT)
    for worker in range(WORKERS):
        stage.save(worker, 110)
    write_all(stage, EQUAL)
    stage.commit()
    assert [checkpoint.step for checkpoint in stage.coordinator.checkpoints] == [110]


def test_where_nothing_is_to_be_checked_a_difference_is_not_looked_for() -> None:
    stage = staged("off")
    write_all(stage, DIFFERENT)
    assert stage.commits
    assert not warnings(stage)


def test_what_is_linked_is_compared_too() -> None:
    frozen = Shard(2, "", 0, (), frozen=DataFile("1/f", 16, ENTRIES[2], linked=True))
    assert [found.tensor for found in differences({2: frozen}, DIFFERENT)] == ["embedding"]


def test_many_differences_are_counted_and_the_first_ones_named() -> None:
    stage = staged("warn")
    wrong = {
        worker: replace(check, sums=tuple(replace(each, crc32c=1) for each in check.sums))
        for worker, check in EQUAL.items()
    }
    write_all(stage, wrong)
    (told,) = warnings(stage)
    assert told.endswith(" and 1 more")


def test_what_was_not_written_as_planned_is_not_compared() -> None:
    """Worker 2 is lost; its share, of which worker 1 found something else, is written by the others."""
    stage = staged("refuse")
    stage.kill(2)
    stage.wait(3.0)
    write(stage, 0, EQUAL[0])
    write(stage, 1, DIFFERENT[1])
    for worker in (0, 1):
        asked = stage.writes[worker].pop(0)
        shard = Shard(worker, f"1/{asked.round}-{asked.share}", 8, (entry("embedding", 5, 2),))
        stage.happen(worker, events.ShareWritten(asked.round, asked.share, shard))
    assert stage.commits


def test_a_check_of_a_share_that_there_is_not_does_no_harm() -> None:
    stage = staged("refuse")
    write_all(stage, EQUAL | {0: Check(17, (Sum("embedding", 0, 1),))})
    assert stage.commits
