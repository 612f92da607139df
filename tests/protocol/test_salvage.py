"""Between two saves a worker is lost: what the others have kept in memory becomes a checkpoint, or is not needed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from staged.stage import DEADLINES, Stage

from distckpt.model import Cause, Checkpoint
from distckpt.protocol import events
from distckpt.protocol.messages import Alive, Announce, Committed, Heartbeat

BEAT_S = DEADLINES.heartbeat_s


def kept(*steps: int, workers: int = 3, checkpoints: tuple[str, ...] = ()) -> Stage:
    """All workers have kept snapshots of the ends of these steps, and have said so."""
    live = [Checkpoint(name, int(name.removeprefix("ckpt-")), 0.0, 0) for name in checkpoints]
    stage = Stage(workers, live).start_all()
    for step in steps:
        for worker in range(workers):
            stage.keep(worker, step)
    stage.wait(BEAT_S)
    return stage


def lose(stage: Stage, worker: int) -> None:
    """It is killed, and the loss is noticed; the survivors have spoken since."""
    stage.kill(worker)
    stage.wait(DEADLINES.disconnect_s + BEAT_S)


def saved(stage: Stage) -> list[int]:
    """Writes and commits what is to be; the steps of it."""
    stage.write_all()
    ordered = [commit.step for commit in stage.commits]
    while stage.commits:
        stage.commit()
    return ordered


def test_the_newest_that_all_survivors_have_is_committed_and_the_lost_worker_is_named() -> None:
    stage = kept(10, 20)
    stage.keep(0, 30)
    lose(stage, 2)
    stage.write_all()
    assert [(commit.step, commit.missing) for commit in stage.commits] == [(20, (2,))]
    assert saved(stage) == [20]
    assert isinstance(stage.outcomes[1][-1], Committed)


def test_one_older_is_kept_until_this_worker_has_finished_a_step_more() -> None:
    stage = kept(10, 20)
    assert stage.kept[0] == [10, 20]
    stage.finish(0, 21)
    assert stage.kept[0] == [20]
    for step in (30, 40, 50):
        stage.keep(0, step)
    assert stage.kept[0] == [40, 50]


def test_what_is_committed_is_released_and_not_salvaged_again() -> None:
    stage = kept(10, 20)
    for worker in range(3):
        stage.save(worker, 20)
    assert saved(stage) == [20]
    assert stage.kept == {0: [], 1: [], 2: []}
    lose(stage, 2)
    assert saved(stage) == []


def test_nothing_older_than_the_last_commit_is_salvaged() -> None:
    stage = kept(10, checkpoints=("ckpt-50",))
    lose(stage, 2)
    assert stage.writes[0] == []
    assert stage.kept[0] == [10]


def test_workers_that_have_no_step_in_common_salvage_nothing() -> None:
    stage = Stage(3).start_all()
    for worker in range(3):
        stage.keep(worker, 10 * (1 + worker))
    lose(stage, 2)
    assert stage.writes == {0: [], 1: [], 2: []}


def test_a_restore_releases_what_is_of_another_course_of_the_training() -> None:
    stage = kept(10, 20)
    for worker in range(3):
        stage.restore(worker)
    assert stage.kept == {0: [], 1: [], 2: []}


def test_steps_that_come_again_replace_those_of_before() -> None:
    stage = kept(10, 20)
    stage.keep(0, 15)
    assert stage.kept[0] == [10, 15]


def test_a_save_in_flight_that_survives_makes_a_salvage_needless() -> None:
    stage = kept(10)
    for worker in range(3):
        stage.save(worker, 11)
    lose(stage, 2)
    assert saved(stage) == [11]
    stage.wait(2 * BEAT_S)
    assert saved(stage) == []


def test_a_save_in_flight_that_fails_leaves_what_was_kept_to_be_salvaged() -> None:
    stage = kept(10)
    for worker in range(3):
        stage.save(worker, 11, captured=False)
    stage.kill(2)
    for worker in (0, 1):
        stage.happen(worker, events.SaveFailedLocally(1, Cause("CaptureFailed", "a collective failed", worker)))
    stage.wait(DEADLINES.disconnect_s)
    assert isinstance(stage.outcomes[0][0], Cause)
    stage.wait(2 * BEAT_S)
    assert saved(stage) == [10]


def test_nothing_is_decided_before_all_survivors_have_spoken_since_the_loss() -> None:
    stage = kept(10)
    stage.cut.add(1)
    lose(stage, 2)
    assert stage.kept[0] == [10]
    stage.say(1, Heartbeat(10, kept=(10,)))
    assert stage.kept[0] == []


def test_who_did_not_hear_what_is_to_be_salvaged_is_told_again() -> None:
    stage = kept(10)
    stage.cut.add(1)
    lose(stage, 2)
    stage.say(1, Heartbeat(10, kept=(10,)))  # the answer is lost
    assert stage.writes[0] == []
    stage.cut.discard(1)
    stage.wait(BEAT_S)
    assert saved(stage) == [10]


def test_a_save_of_the_training_does_not_wait_for_those_who_do_not_come_to_a_salvage() -> None:
    stage = kept(10)
    stage.cut.add(1)
    lose(stage, 2)
    stage.say(1, Heartbeat(10, kept=(10,)))  # the answer, that this is to be salvaged, is lost
    stage.cut.discard(1)
    stage.save(1, 12)
    assert stage.cause(0).kind == "SaveAborted"
    stage.save(0, 12)
    assert saved(stage) == [12]
    assert isinstance(stage.outcomes[1][-1], Committed)


def test_who_comes_to_a_salvage_when_the_training_saves_already_is_declined_and_that_save_goes_on() -> None:
    stage = kept(10)
    stage.cut |= {0, 1}
    lose(stage, 2)
    for worker in (0, 1):
        stage.say(worker, Heartbeat(10, kept=(10,)))  # that it is to be salvaged is told, and lost
    stage.cut.clear()
    stage.save(0, 12)
    stage.say(1, Announce(1, 10, "ckpt-10", "same", 0, salvage=True))
    stage.happen(1, events.SaveRequested(2, 12, "ckpt-12", "same", 0))
    assert saved(stage) == [12]


def test_where_a_worker_has_left_for_good_no_save_goes_on_and_nothing_is_salvaged() -> None:
    stage = kept(10)
    stage.happen(1, events.Stop())
    lose(stage, 2)
    assert stage.kept[0] == [10]


def test_the_chief_itself_does_not_take_over_when_its_coordinator_is_slow() -> None:
    stage = kept(10)
    stage.cut.add(0)
    stage.happen(0, events.ConnectionLost())
    stage.wait(DEADLINES.disconnect_s + BEAT_S)
    assert stage.kept[0] == [10]


def test_an_announcement_of_what_nobody_asked_for_is_declined() -> None:
    stage = kept(10)
    stage.happen(0, events.SaveRequested(1, 10, "ckpt-10", "same", 0, salvage=True))
    assert stage.cause(0).kind == "SaveAborted"
    assert stage.coordinator.round is None


def test_a_salvage_that_fails_on_one_worker_does_not_fail_the_next_save() -> None:
    stage = kept(10)
    lose(stage, 2)
    for worker in (0, 1):
        for _ in range(2):
            stage.fail_share(worker, Cause("StorageFull", "no space left", worker))
            if not stage.writes[worker]:
                break
    assert stage.coordinator.round is None
    for worker in (0, 1):
        stage.save(worker, 12)
    assert saved(stage) == [12]


def test_survivors_that_part_are_there_until_the_salvage_is_over() -> None:
    stage = kept(10)
    stage.kill(2)
    for worker in (0, 1):
        stage.happen(worker, events.Parting())
    stage.wait(DEADLINES.disconnect_s + BEAT_S)
    assert stage.parted == set()
    assert saved(stage) == [10]
    assert stage.parted == {0, 1}


def test_a_worker_that_parts_waits_for_the_others_no_longer_than_for_a_loss() -> None:
    stage = kept(10)
    stage.happen(0, events.Parting())
    stage.wait(DEADLINES.part_s - 1)
    assert stage.parted == set()
    stage.wait(1)
    assert stage.parted == {0}


def test_who_keeps_nothing_parts_at_once() -> None:
    stage = kept()
    stage.happen(0, events.Parting())
    assert stage.parted == {0}


@pytest.mark.parametrize("gone", [True, False])
def test_without_the_chief_a_survivor_commits_what_it_has(*, gone: bool) -> None:
    stage = kept(10, 20)
    del stage.agents[0]
    stage.chief_lives = False
    stage.holder = replace(stage.holder, is_gone=gone, sign="1")
    for worker in (1, 2):
        stage.cut.add(worker)
        stage.happen(worker, events.ConnectionLost())
        stage.happen(worker, events.Parting())
    stage.wait(2 * DEADLINES.disconnect_s + (0 if gone else DEADLINES.turn_s))
    assert set(stage.takeovers) == {1}
    stage.take_over(1, step=20)
    assert stage.parted == {1}
    stage.wait(DEADLINES.resend_s)
    outcomes = [stage.outcomes[worker][-1] for worker in (1, 2)]
    assert all(isinstance(each, Committed) and each.checkpoint.name == "ckpt-20" for each in outcomes)
    assert stage.parted == {1, 2}


def test_without_the_chief_what_is_kept_goes_before_an_older_save_that_was_in_flight() -> None:
    stage = kept(10)
    for worker in range(3):
        stage.save(worker, 11)
    for worker in (1, 2):
        stage.keep(worker, 20)
    del stage.agents[0]
    stage.chief_lives = False
    stage.holder = replace(stage.holder, is_gone=True, sign="1")
    for worker in (1, 2):
        stage.cut.add(worker)
        stage.happen(worker, events.ConnectionLost())
    stage.wait(4 * DEADLINES.disconnect_s)
    assert set(stage.takeovers) == {1}
    stage.take_over(1, step=20)
    of_11, of_20 = stage.outcomes[1]
    assert isinstance(of_11, Cause)
    assert isinstance(of_20, Committed)


def test_a_new_start_of_the_job_is_first_and_nothing_is_salvaged() -> None:
    stage = kept(10, 20)
    stage.holder = events.JournalSeen(0, 2)
    stage.cut.add(1)
    stage.happen(1, events.ConnectionLost())
    stage.wait(2 * DEADLINES.disconnect_s)
    assert stage.takeovers == {}
    assert stage.cause(1).kind in ("Fenced", "OutcomeUnknown")


def test_a_worker_that_is_cut_off_from_a_chief_that_lives_tries_once() -> None:
    stage = kept(10, 20)
    stage.cut.add(1)
    stage.happen(1, events.ConnectionLost())
    stage.wait(6 * DEADLINES.turn_s)
    assert stage.takeovers == {}
    assert len(stage.outcomes[1]) == 1
    stage.tell(1, Alive())
    assert stage.kept[1] == [10]


def test_a_salvage_that_came_to_nothing_does_not_fail_the_next_save_of_the_others() -> None:
    stage = kept(10)
    stage.cut.add(1)
    stage.happen(1, events.ConnectionLost())
    stage.wait(6 * DEADLINES.turn_s)
    assert saved(stage) == [10], "by the others"
    assert stage.cause(1).kind == "CoordinatorUnreachable"
    stage.cut.discard(1)
    stage.wait(2 * DEADLINES.resend_s)
    for worker in range(3):
        stage.save(worker, 30)
    assert saved(stage) == [30]
