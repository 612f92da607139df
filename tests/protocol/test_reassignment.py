"""A save outlives its writers: whoever dies, hangs or cannot write, the others who hold the same values write it."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from staged.stage import DEADLINES, Stage

from distckpt.model import Cause, Extent, Piece, Shard, Split, TensorSpec
from distckpt.protocol import events
from distckpt.protocol.messages import Announce, Committed, Decided, Written
from distckpt.protocol.plan import plan, writers_of
from distckpt.protocol.shares import Shares

FULL = Cause("StorageFull", "worker 1: no space left", 1)


def writing(workers: int) -> Stage:
    """A stage whose save is decided."""
    stage = Stage(workers).start_all()
    for worker in range(workers):
        stage.save(worker)
    return stage


def lose(stage: Stage, worker: int) -> None:
    stage.kill(worker)
    stage.wait(DEADLINES.disconnect_s + 0.1)


def handed_in(stage: Stage) -> list[str]:
    """The handles that the commit names."""
    return [shard.handle for shard in stage.commits[0].shards]


# ------------------------------------------------------------------------------------------------------------- the plan


@st.composite
def split_plans(draw: st.DrawFn) -> tuple[list[TensorSpec], list[int], list[Split]]:
    shapes = draw(st.lists(st.lists(st.integers(0, 40), min_size=0, max_size=2), max_size=12))
    specs = [
        TensorSpec(
            f"t{n}",
            1,
            tuple(shape),
            4 * shape[0] * (shape[1] if len(shape) > 1 else 1) if shape else 4,
            divisible=bool(shape),
        )
        for n, shape in enumerate(shapes)
    ]
    own = draw(st.lists(st.integers(0, 500), min_size=1, max_size=5))
    splits: list[Split] = []
    for _ in range(draw(st.integers(0, 4))):
        shares = len(writers_of(len(own), splits))
        share = draw(st.integers(0, shares - 1).filter(lambda n: n not in {split.share for split in splits}))
        writers = draw(st.lists(st.integers(0, len(own) - 1), min_size=1, max_size=4, unique=True))
        splits.append(Split(share, tuple(writers)))
    return specs, own, splits


def rows_of(specs: Sequence[TensorSpec], pieces: Sequence[Piece]) -> list[tuple[str, int]]:
    """Every row that the pieces hold, as often as they do; a tensor that cannot be cut is one row."""
    rows = {spec.name: spec.shape[0] if spec.divisible else 1 for spec in specs}
    extents = [(piece.tensor, piece.rows or Extent(0, rows[piece.tensor])) for piece in pieces]
    return sorted((name, row) for name, extent in extents for row in range(extent.start, extent.end))


@given(split_plans())
def test_what_a_share_held_is_in_its_parts_once_and_nothing_else(
    given_up: tuple[list[TensorSpec], list[int], list[Split]],
) -> None:
    specs, own, splits = given_up
    shares = plan(specs, own, splits)
    assert tuple(share.worker for share in shares) == writers_of(len(own), splits)
    number = len(own)
    for split in splits:
        parts = shares[number : number + len(split.writers)]
        held = [piece for part in parts for piece in part.pieces]
        assert rows_of(specs, held) == rows_of(specs, shares[split.share].pieces)
        assert sum(piece.size_bytes for piece in held) == shares[split.share].size_bytes
        number += len(split.writers)


@given(split_plans(), st.randoms(use_true_random=False))
def test_every_worker_comes_to_the_same_parts(
    given_up: tuple[list[TensorSpec], list[int], list[Split]], order: random.Random
) -> None:
    specs, own, splits = given_up
    shuffled = specs.copy()
    order.shuffle(shuffled)
    assert plan(shuffled, own, splits) == plan(specs, own, splits)


def test_the_share_of_one_is_spread_evenly_over_the_others() -> None:
    specs = [TensorSpec("embedding", 1, (900, 4), 14_400, divisible=True)]
    shares = plan(specs, [0, 0, 0], [Split(2, (0, 1))])
    assert [(share.worker, share.pieces[0].rows) for share in shares[3:]] == [
        (0, Extent(600, 150)),
        (1, Extent(750, 150)),
    ]


# ----------------------------------------------------------------------------------------------------------- the shares


@given(st.data())
def test_what_is_chosen_holds_each_first_share_once_or_all_of_its_parts(data: st.DataObject) -> None:
    """Whatever is handed in, given up and handed in late: a complete save has every piece once."""
    shares = Shares(3, 0.0)
    parts: dict[int, range] = {}
    while shares.awaited:
        share = data.draw(st.sampled_from(shares.awaited))
        if len(shares.splits) < 4 and share not in parts and data.draw(st.booleans()):
            first = len(shares.writers)
            shares.split(share, tuple(range(data.draw(st.integers(1, 3)))), 1.0)
            parts[share] = range(first, len(shares.writers))
        else:
            late = [other for other in range(len(shares.writers)) if other not in shares.shards]
            shares.hand_in(data.draw(st.sampled_from(late)), Shard(0, "", 0, ()), 2.0)

    def covered(share: int) -> int:
        below = sum(covered(part) for part in parts.get(share, ()))
        return (share in shares.chosen()) + (below // len(parts[share]) if share in parts else 0)

    assert [covered(worker) for worker in range(3)] == [1, 1, 1]


# ----------------------------------------------------------------------------------------------------- who is not there


def test_what_a_dead_worker_had_written_is_not_written_again() -> None:
    stage = writing(3)
    stage.write(2)
    lose(stage, 2)
    stage.write_all()
    assert handed_in(stage) == ["1/1-0", "1/1-1", "1/1-2"]
    assert stage.commits[0].missing == ()


def test_a_second_death_gives_up_what_the_first_left_behind() -> None:
    stage = writing(3)
    lose(stage, 1)
    stage.write(0)
    lose(stage, 2)
    stage.write_all()
    assert {shard.worker for shard in stage.commits[0].shards} == {0}
    stage.commit()
    assert isinstance(stage.outcomes[0][0], Committed)


def test_all_but_the_chief_may_die() -> None:
    stage = writing(4)
    for worker in (1, 2, 3):
        lose(stage, worker)
    stage.write_all()
    assert stage.commits


def test_a_worker_that_leaves_while_it_writes_does_not_cost_the_save() -> None:
    stage = writing(2)
    stage.happen(1, events.Stop(Cause("UnsupportedState", "its training ended", 1)))
    assert stage.cause(1).kind == "UnsupportedState"
    stage.write(0)
    stage.write(0)
    assert handed_in(stage) == ["1/1-0", "1/1-2"]


def test_a_worker_that_is_started_again_does_not_disturb_the_save_of_its_predecessor() -> None:
    stage = writing(2)
    stage.start(1, "w1-again")
    stage.save(1, 90)
    stage.write(0)
    stage.write(0)
    stage.commit()
    assert isinstance(stage.outcomes[0][0], Committed)


def test_a_save_that_is_captured_together_is_given_up_with_its_worker() -> None:
    """Capturing runs collectives: without the lost worker they would hang."""
    stage = Stage(2).start_all()
    lose(stage, 1)
    stage.save(0, captured=False)
    assert stage.cause(0).kind == "WorkerLost"


def test_the_workers_without_whose_own_state_a_save_is_committed_are_named() -> None:
    stage = Stage(3).start_all()
    for worker in range(3):
        ordinal = 1
        asked = events.SaveRequested(ordinal, 100, "ckpt-100", "same", 10 * worker, {}, captured=True)
        stage.happen(worker, asked)
    lose(stage, 2)
    stage.write_all()
    assert stage.commits[0].missing == (2,)


def test_a_worker_that_was_only_cut_off_is_told_of_the_commit_made_without_it() -> None:
    stage = Stage(2).start_all()
    stage.cut.add(1)
    stage.save(0)
    stage.save(1)
    stage.decide(events.Disconnected(1, "w1"))
    stage.wait(DEADLINES.disconnect_s + 0.1)
    stage.write_all()
    stage.commit()
    assert isinstance(stage.outcomes[0][0], Committed)
    stage.cut.clear()
    stage.wait(DEADLINES.resend_s)
    assert isinstance(stage.outcomes[1][0], Committed)
    stage.save(0, 110)
    stage.save(1, 110)
    stage.write_all()
    stage.commit()
    assert all(isinstance(stage.outcomes[worker][1], Committed) for worker in (0, 1))


def test_a_worker_that_comes_back_while_the_others_write_takes_part_again() -> None:
    stage = Stage(2).start_all()
    stage.cut.add(1)
    stage.save(0)
    stage.save(1)
    stage.decide(events.Disconnected(1, "w1"))
    stage.wait(DEADLINES.disconnect_s + 0.1)
    stage.cut.clear()
    stage.wait(DEADLINES.resend_s)
    assert not stage.writes[1], "its share is the chief's now"
    stage.write_all()
    stage.commit()
    assert isinstance(stage.outcomes[1][0], Committed)


def test_all_plan_by_what_was_decided_whoever_comes_back() -> None:
    """What the worker that comes back has of its own was not counted when the others planned."""
    stage = Stage(3).start_all()
    stage.cut.add(1)
    for worker in range(3):
        stage.save(worker, own_bytes=50)
    stage.decide(events.Disconnected(1, "w1"))
    stage.wait(DEADLINES.disconnect_s + 0.1)
    stage.cut.clear()
    stage.wait(DEADLINES.resend_s)
    lose(stage, 2)
    assert stage.writes[1], "it writes a part of what worker 2 leaves"
    planned_by = {asked.own_bytes for worker in range(3) for asked in stage.writes[worker]}
    assert planned_by == {(50, 0, 50)}


def test_a_worker_that_comes_back_with_another_save_waits_for_the_next_round() -> None:
    stage = Stage(2).start_all()
    lose(stage, 1)
    stage.save(0)
    stage.start(1, "w1-again")
    stage.save(1, 110)
    stage.write_all()
    stage.commit()
    stage.save(0, 110)
    stage.wait(DEADLINES.resend_s)
    stage.write_all()
    stage.commit()
    assert isinstance(stage.outcomes[1][0], Committed)


# ---------------------------------------------------------------------------------------------------------- who is late


def test_while_all_are_slow_nobody_is_late() -> None:
    stage = writing(2)
    stage.wait(DEADLINES.straggler_s * 2)
    assert [len(stage.writes[worker]) for worker in (0, 1)] == [1, 1]
    stage.write(0)
    stage.wait(DEADLINES.straggler_s * 2 - 1)
    assert stage.writes[0] == [], "late is twice as long as the others took"
    stage.wait(1)
    assert [asked.share for asked in stage.writes[0]] == [2]


def test_a_chief_that_was_frozen_takes_nobody_for_lost() -> None:
    stage = writing(3)
    stage.now += DEADLINES.silence_s + 1
    stage.decide(events.Tick())
    assert stage.coordinator.present == (0, 1, 2)
    stage.write_all()
    assert handed_in(stage) == ["1/1-0", "1/1-1", "1/1-2"]


def test_what_only_the_chief_has_is_waited_for() -> None:
    stage = writing(2)
    stage.write(1)
    stage.wait(DEADLINES.write_s - 1)
    assert stage.writes[1] == []


# ----------------------------------------------------------------------------------------------------- who cannot write


def test_whoever_cannot_write_is_not_asked_again() -> None:
    stage = writing(3)
    stage.fail_share(1, FULL)
    assert [asked.share for asked in stage.writes[2]] == [2, 4]
    lose(stage, 2)
    assert stage.writes[1] == []
    stage.write_all()
    assert stage.commits


def test_a_share_that_nobody_can_write_aborts_with_the_cause() -> None:
    stage = writing(2)
    stage.fail_share(1, FULL)
    stage.write(0)
    stage.fail_share(0, Cause("StorageFull", "worker 0: no space left", 0))
    assert stage.cause(0) == stage.cause(1) == Cause("StorageFull", "worker 0: no space left", 0)
    assert stage.discarded == ["1/1-0"]


def test_a_failed_worker_hears_of_the_commit_that_the_others_made() -> None:
    stage = writing(2)
    stage.fail_share(1, FULL)
    stage.write_all()
    stage.commit()
    assert isinstance(stage.outcomes[1][0], Committed)


# ----------------------------------------------------------------------------------------------- repeated and reordered


def test_a_decision_that_arrives_twice_or_after_a_later_one_begins_nothing_anew() -> None:
    stage = writing(3)
    lose(stage, 2)
    begun = [asked.share for asked in stage.writes[0]]
    (early, late) = (Decided(1, 1, 100, (0, 0, 0)), Decided(1, 1, 100, (0, 0, 0), (Split(2, (0, 1)),)))
    for message in (late, early, late):
        stage.tell(0, message)
    assert [asked.share for asked in stage.writes[0]] == begun == [0, 3]


def test_a_reassignment_whose_message_was_lost_is_told_again() -> None:
    stage = writing(3)
    stage.write(1)
    stage.cut.add(1)
    lose(stage, 2)
    stage.say(1, Written(1, 1, Shard(1, "1/1-1", 8, ())))
    assert stage.writes[1] == []
    stage.cut.clear()
    stage.wait(DEADLINES.resend_s)
    assert [asked.share for asked in stage.writes[1]] == [4]


def test_a_share_that_comes_after_the_commit_without_it_is_thrown_away() -> None:
    stage = writing(2)
    lose(stage, 1)
    stage.write_all()
    stage.commit()
    stage.say(1, Written(1, 1, Shard(1, "1/1-1", 8, ())))
    assert stage.discarded == ["1/1-1"]


@pytest.mark.parametrize("share", [0, 7])
def test_a_share_that_is_not_its_senders_aborts_the_round(share: int) -> None:
    stage = writing(2)
    stage.say(1, Written(1, share, Shard(1, "1/forged", 8, ())))
    assert stage.cause(0).kind == "WriteFailed"


def test_an_announcement_of_another_model_does_not_come_to_a_decided_save() -> None:
    stage = Stage(2).start_all()
    stage.cut.add(1)
    stage.save(0)
    lose(stage, 1)
    stage.say(1, Announce(1, 100, "ckpt-100", "another", 0, {}, captured=True))
    stage.write_all()
    assert stage.commits[0].missing == (1,)
