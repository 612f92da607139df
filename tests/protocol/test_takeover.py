"""The coordinator is gone in the middle of a save: survivors take turns, and say only what the journal says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from staged.stage import DEADLINES, Stage

from distckpt.model import Cause, Checkpoint
from distckpt.protocol import events
from distckpt.protocol.agent import Standing
from distckpt.protocol.messages import Alive, Committed, FencedOff

FULL = Cause("StorageFull", "worker 1: no space left", 1)


def orphaned(workers: int = 3, *, gone: bool = True, written: bool = False) -> Stage:
    """A stage whose chief has died in the middle of a save; the survivors have just found that out."""
    stage = Stage(workers).start_all()
    for worker in range(workers):
        stage.save(worker)
    if written:
        for worker in range(1, workers):
            stage.write(worker)
    del stage.agents[0]
    stage.chief_lives = False
    stage.holder = replace(stage.holder, is_gone=gone, sign="1")
    for worker in range(1, workers):
        stage.cut.add(worker)
        stage.happen(worker, events.ConnectionLost())
    stage.wait(DEADLINES.disconnect_s)
    return stage


def test_the_survivors_take_turns_in_the_order_of_their_indices() -> None:
    stage = orphaned(4)
    assert set(stage.takeovers) == {1}
    stage.wait(DEADLINES.turn_s)
    assert set(stage.takeovers) == {1, 2}
    stage.wait(DEADLINES.turn_s)
    assert set(stage.takeovers) == {1, 2, 3}


def test_nobody_takes_over_before_the_chief_gave_no_sign_of_life_for_a_turn() -> None:
    stage = orphaned(gone=False)
    stage.wait(DEADLINES.turn_s - 0.1)
    assert stage.takeovers == {}
    stage.wait(0.2)
    assert set(stage.takeovers) == {1}


@pytest.mark.parametrize("written", [True, False])
def test_a_chief_that_lives_and_cannot_be_reached_is_left_alone(*, written: bool) -> None:
    stage = orphaned(gone=False, written=written)
    stage.chief_lives = True
    stage.wait(DEADLINES.turn_s * 4)
    assert stage.takeovers == {}
    assert stage.cause(1).kind == ("OutcomeUnknown" if written else "CoordinatorUnreachable")


def test_a_chief_that_left_at_a_normal_end_has_no_successor() -> None:
    stage = orphaned(gone=False)
    stage.holder = replace(stage.holder, has_left=True, is_gone=True)
    stage.wait(DEADLINES.turn_s * 4)
    assert stage.takeovers == {}
    assert stage.cause(1).kind == "CoordinatorUnreachable"


def test_a_coordinator_that_speaks_again_ends_the_watch() -> None:
    stage = orphaned(gone=False)
    stage.tell(1, Alive())
    stage.wait(DEADLINES.silence_s - 1)
    assert 1 not in stage.takeovers
    assert stage.outcomes[1] == []


def test_a_save_that_the_dead_chief_had_committed_is_only_reported() -> None:
    stage = orphaned(gone=False)
    made = Checkpoint("ckpt-100", 100, 0.0, 1)
    stage.holder = replace(stage.holder, committed=made)
    stage.wait(DEADLINES.resend_s)
    assert [stage.outcomes[worker][0] for worker in (1, 2)] == [Committed(1, 1, made)] * 2
    assert stage.takeovers == {}


def test_after_a_takeover_this_incarnation_saves_no_more() -> None:
    stage = orphaned()
    stage.take_over(1)
    assert stage.agents[1].standing is Standing.STOPPED
    stage.save(1, 110)
    assert stage.cause(1).kind == "CoordinatorUnreachable"


def test_a_takeover_that_fails_is_not_said_to_have_committed_nothing() -> None:
    stage = orphaned()
    stage.take_over(1, FULL)
    assert stage.cause(1).kind == "OutcomeUnknown"
    assert "no space left" in stage.cause(1).message


def test_who_follows_a_survivor_that_dies_too_does_not_wait_for_ever() -> None:
    stage = orphaned(written=True)
    stage.holder = events.JournalSeen(0, 2, is_start=False, sign="1")
    stage.wait(DEADLINES.silence_s)
    assert stage.outcomes[2] == []
    stage.wait(2 * DEADLINES.resend_s)
    assert stage.cause(2).kind == "OutcomeUnknown"
    assert "gone too" in stage.cause(2).message


def test_a_takeover_that_comes_to_no_end_has_one() -> None:
    stage = orphaned()
    stage.wait(DEADLINES.takeover_s)
    assert stage.cause(1).kind == "OutcomeUnknown"
    stage.take_over(1)
    assert len(stage.outcomes[1]) == 1


def test_a_journal_that_cannot_be_read_is_looked_at_again() -> None:
    stage = orphaned(gone=False)
    stage.holder = replace(stage.holder, generation=None)
    stage.wait(DEADLINES.turn_s * 3)
    assert stage.takeovers == {}
    stage.holder = replace(stage.holder, generation=1)
    stage.wait(DEADLINES.resend_s)
    assert set(stage.takeovers) == {1, 2}


def test_what_the_sealed_coordinator_says_in_the_end_changes_nothing() -> None:
    stage = orphaned()
    stage.tell(1, FencedOff(1, Cause("Fenced", "generation 2 has begun")))
    assert stage.outcomes[1] == []
    stage.take_over(1)
    assert isinstance(stage.outcomes[1][0], Committed)


def test_closing_in_the_middle_of_a_takeover_leaves_the_outcome_unknown() -> None:
    stage = orphaned()
    stage.happen(1, events.Stop())
    assert stage.cause(1).kind == "OutcomeUnknown"


def test_a_save_that_is_not_captured_is_not_taken_over() -> None:
    stage = Stage(2).start_all()
    stage.save(1, captured=False)
    stage.cut.add(1)
    stage.happen(1, events.ConnectionLost())
    stage.wait(DEADLINES.disconnect_s)
    assert stage.cause(1).kind == "CoordinatorUnreachable"
