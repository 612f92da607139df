"""What the chronicle tells of a job is what the coordinator did, and nothing of it is kept for ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from distckpt.model import Cause, Checkpoint, FileRecord
from distckpt.observe import chronicle
from distckpt.observe import happenings as h
from distckpt.observe.chronicle import Chronicle
from distckpt.observe.picture import WorkerView
from distckpt.protocol import events
from distckpt.protocol.messages import Activity, Heartbeat, Stall

Watch = Callable[..., Any]


def test_a_save_is_told_phase_by_phase(watch: Watch) -> None:
    job = watch()
    stage = job.stage
    stage.save(0)
    stage.wait(0.25)
    stage.save(1)
    assert job.take() == [h.SaveOpened(1, 100, "ckpt-100"), h.SaveAgreed(1, 100, 0.25)]
    stage.wait(0.25)
    stage.write(1)
    assert job.take() == [h.ShareWritten(1, 100, 1, 8, 0.25)]
    stage.wait(0.5)
    stage.write(0)
    assert job.take() == [h.ShareWritten(1, 100, 0, 8, 0.75), h.SaveCommitting(1, 100, 0.75)]
    stage.wait(0.5)
    stage.commit()
    (ended,) = job.take()
    assert ended == h.SaveEnded(1, 100, "ckpt-100", "committed", "", "", None, 0, 1.5, 0.5, 1.5)
    (save,) = job.picture().saves
    assert (save.phase, save.opened_at, save.agreed_at) == ("committed", 1_000_000.0, 1_000_000.25)
    assert (save.committing_at, save.ended_at) == (1_000_001.0, 1_000_001.5)
    assert [(part.came_at, part.written_at) for part in save.parts] == [
        (1_000_000.0, 1_000_001.0),
        (1_000_000.25, 1_000_000.5),
    ]


def test_an_aborted_save_names_its_cause_and_its_worker(watch: Watch) -> None:
    job = watch()
    job.stage.save(0, captured=False)  # capturing it would need worker 1
    job.stage.kill(1)
    job.stage.wait(5.0)
    lost, ended = job.take(h.WorkerLost, h.SaveEnded)
    assert (lost.worker, ended.outcome, ended.cause, ended.worker) == (1, "aborted", "WorkerLost", 1)
    assert ended.bytes == 0
    picture = job.picture()
    assert (picture.saves[-1].phase, picture.saves[-1].cause, picture.in_flight) == ("aborted", "WorkerLost", None)
    assert [trouble.cause for trouble in picture.troubles] == ["WorkerLost"]
    assert [worker.presence for worker in picture.workers] == ["present", "lost"]


def test_a_save_that_ends_while_the_next_one_begins_is_two_saves(watch: Watch) -> None:
    job = watch()
    job.stage.save(0, 100)
    job.stage.cut = {0}
    job.stage.happen(0, events.SaveFailedLocally(job.stage.ordinal(0), Cause("WriteFailed", "it cannot", 0)))
    job.stage.cut = set()
    job.stage.save(0, 101)
    told = [(type(each), each.step) for each in job.take(h.SaveOpened, h.SaveEnded)]
    assert told == [(h.SaveOpened, 100), (h.SaveEnded, 100), (h.SaveOpened, 101)]
    assert [save.phase for save in job.picture().saves] == ["aborted", "gathering"]


def test_a_commit_whose_outcome_nobody_knows_is_neither_committed_nor_aborted(watch: Watch) -> None:
    job = watch()
    job.stage.save(0)
    job.stage.save(1)
    job.stage.write_all()
    job.stage.fail_commit("OutcomeUnknown", fatal=True)
    ended, fenced = job.take(h.SaveEnded, h.ChiefFenced)
    assert (ended.outcome, ended.cause) == ("unknown", "OutcomeUnknown")
    assert fenced.cause == "OutcomeUnknown"


def test_a_fence_is_told_once_however_often_workers_ask(watch: Watch) -> None:
    job = watch()
    job.stage.decide(events.Superseded(2, Cause("Fenced", "generation 2 has begun", 0)))
    job.stage.say(1, Heartbeat(5))
    assert job.take(h.ChiefFenced) == [h.ChiefFenced("Fenced", "generation 2 has begun")]


def test_workers_that_come_go_and_come_back_are_told_of(watch: Watch) -> None:
    job = watch()
    job.stage.cut = {1}
    job.stage.wait(20.0)
    assert [each.worker for each in job.take(h.WorkerLost)] == [1]
    job.stage.cut = set()
    job.stage.wait(1.0)
    assert job.take(h.WorkerJoined) == [h.WorkerJoined(1, "host", 1001, again=True)]
    job.stage.start(1, "another")
    lost, joined = job.take(h.WorkerLost, h.WorkerJoined)
    assert (lost.worker, joined) == (1, h.WorkerJoined(1, "host", 1001, again=False))
    job.stage.happen(1, events.Stop(Cause("WriteFailed", "no")))
    assert job.take() == [h.WorkerLeft(1, "WriteFailed")]
    assert job.picture().workers[1].presence == "left"


def test_a_worker_that_never_came_is_shown_as_absent(watch: Watch) -> None:
    job = watch(2)
    fresh = Chronicle(job.opening, lambda _: None)
    assert fresh.picture(0.0, 0.0).workers == (WorkerView(0, "absent"), WorkerView(1, "absent"))


def test_a_restore_is_told_with_what_it_chose_and_what_it_set_aside(watch: Watch) -> None:
    made = [Checkpoint(f"ckpt-{step}", step, float(step), 1) for step in (1, 2)]
    job = watch(2, made)
    for worker in (0, 1):
        job.stage.restore(worker)
    job.stage.wait(0.5)
    job.stage.verify(0, "weight: bytes 3 to 9 differ")
    aside = job.take(h.SetAside)
    job.stage.set_aside()
    job.stage.verify(0)
    job.stage.verify(1)
    assert aside == [h.SetAside("ckpt-2", "weight: bytes 3 to 9 differ (found by worker 0)")]
    assert job.take(h.RestoreEnded) == [h.RestoreEnded(1, "latest", "ckpt-1", "", "", 0.5)]
    assert [each.name for each in job.chronicle.checkpoints] == ["ckpt-1"]
    picture = job.picture()
    assert [(each.name, each.ended_at) for each in picture.restores] == [("ckpt-1", 1_000_000.5)]
    assert [each.cause for each in picture.troubles] == ["CorruptCheckpoint"]


def test_how_far_each_share_is_comes_with_the_heartbeats(watch: Watch) -> None:
    job = watch()
    job.stage.save(0)
    job.stage.save(1)
    job.stage.say(1, Heartbeat(99, Activity(round=1, written_bytes=300, share_bytes=1000)))
    job.stage.say(0, Heartbeat(99, Activity(round=7, written_bytes=1, share_bytes=2)))  # not this save's
    save = job.picture().in_flight
    assert [(part.written_bytes, part.share_bytes) for part in save.parts] == [(0, None), (300, 1000)]
    job.stage.write_all()
    save = job.picture().in_flight
    assert [(part.written_bytes, part.share_bytes) for part in save.parts] == [(8, 8), (8, 8)]


def test_a_worker_that_a_save_is_done_without_is_named_and_so_are_those_who_write_for_it(watch: Watch) -> None:
    job = watch(3)
    for worker in range(3):
        job.stage.save(worker)
    job.stage.write(0)
    job.stage.kill(2)
    job.stage.wait(5.0)
    assert job.take(h.ShareGivenUp) == [h.ShareGivenUp(1, 100, 2, (0, 1))]
    job.stage.write_all()
    job.stage.write_all()
    job.stage.commit()
    assert [each.outcome for each in job.take(h.SaveEnded)] == ["committed"]
    parts = job.picture().saves[0].parts
    assert [(part.written_bytes, part.extra_bytes, part.given_up_at is None) for part in parts] == [
        (8, 8, True),
        (8, 8, True),
        (0, 0, False),
    ]


def test_who_comes_to_a_save_after_it_was_done_without_is_shown_as_both(watch: Watch) -> None:
    job = watch(3)
    job.stage.cut = {2}
    job.stage.save(0)
    job.stage.save(1)
    job.stage.wait(20.0)
    (given_up,) = job.take(h.ShareGivenUp)
    assert given_up.worker == 2
    assert job.picture().in_flight.parts[2].came_at is None
    job.stage.cut = set()
    job.stage.wait(1.0)
    job.stage.save(2)
    part = job.picture().in_flight.parts[2]
    assert part.came_at == 1_000_021.0
    assert part.given_up_at < part.came_at


def test_a_stall_counts_once_though_every_heartbeat_repeats_it(watch: Watch) -> None:
    job = watch()
    job.stage.save(0)
    job.stage.save(1)
    stalls = (Stall(1, 100, 0.002),)
    for _ in range(3):
        job.stage.say(1, Heartbeat(100, Activity(stalls=stalls)))
    job.stage.say(1, Heartbeat(100, Activity(stalls=(*stalls, Stall(2, 200, 0.5)))))
    assert job.take(h.TrainingHeld) == [h.TrainingHeld(1, 100, 0.002), h.TrainingHeld(1, 200, 0.5)]
    assert job.picture().saves[0].parts[1].stall_s == 0.002
    assert job.picture().workers[1].stall_s == 0.5


def test_the_speed_is_that_of_the_last_seconds(watch: Watch) -> None:
    job = watch()
    for step in range(10, 31):
        job.stage.wait(0.5)
        job.stage.say(0, Heartbeat(step))
    assert job.picture().workers[0].step == 30
    assert job.picture().workers[0].steps_per_s == pytest.approx(2.0)
    job.stage.wait(40.0)
    assert job.picture().workers[0].steps_per_s == 0.0
    assert job.picture().workers[1].steps_per_s is None


def test_checkpoints_are_those_that_retention_left(watch: Watch) -> None:
    old = [Checkpoint(f"ckpt-{step}", step, float(step), 1, (FileRecord("data", 5),)) for step in (1, 2)]
    job = watch(2, old)
    for worker in (0, 1):
        job.stage.save(worker)
    job.stage.write_all()
    job.stage.commit("ckpt-1")
    assert [(each.name, each.size_bytes) for each in job.chronicle.checkpoints] == [("ckpt-2", 5), ("ckpt-100", 0)]


def test_what_is_remembered_is_bounded(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chronicle, "PARTS_MAX", 8)
    job = watch(2)
    for step in range(1, 50):
        job.stage.save(0, step)
        job.stage.save(1, step + 1)  # every one of them fails
    picture = job.picture()
    assert len(picture.saves) == 4
    assert len(picture.troubles) == chronicle.TROUBLES_MAX
    assert picture.saves[-1].round == 49


def test_words_of_another_job_s_workers_are_not_taken_for_ours(watch: Watch) -> None:
    job = watch(2)
    job.stage.start(9, "stranger", world_size=10)
    assert job.take() == []
    assert len(job.picture().workers) == 2


def test_a_save_that_nobody_foresaw_says_why_there_is_one(watch: Watch) -> None:
    job = watch()
    for worker in (0, 1):
        job.stage.finish(worker, 3)
    job.stage.wish(0, "SIGTERM to worker 0", final=True)
    assert job.take() == [h.StepAgreed(4, "SIGTERM to worker 0", final=True)]
    for worker in (0, 1):
        job.stage.finish(worker, 4)
    assert job.picture().in_flight.reason == "SIGTERM to worker 0"
    job.stage.write_all()
    job.stage.commit()
    for worker in (0, 1):
        job.stage.save(worker, 5)
    assert [save.reason for save in job.picture().saves] == ["SIGTERM to worker 0", ""]
    assert job.take(h.WishFailed) == []


def test_a_wish_that_comes_to_nothing_is_told_once_with_its_cause(watch: Watch) -> None:
    job = watch()
    job.stage.cut = {1}
    job.stage.wish(0, "save-now", within_s=2.0)
    job.stage.wait(3.0)
    job.stage.cut = set()
    job.stage.wait(3.0)
    (failed,) = job.take(h.WishFailed)
    assert failed.cause == "DeadlineExceeded"
    assert failed.message.startswith("save-now: after 2 s")
    assert [trouble.cause for trouble in job.picture().troubles] == ["DeadlineExceeded"]
