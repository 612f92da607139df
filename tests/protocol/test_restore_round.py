"""All workers restore the same checkpoint, one whose bytes are right, or are told why there is none."""

import pytest
from staged.stage import DEADLINES, Stage

from distckpt.model import Cause, Checkpoint
from distckpt.protocol import events
from distckpt.protocol.messages import RestoreDecided


def checkpoints(*metrics: float) -> list[Checkpoint]:
    return [Checkpoint(f"ckpt-{n}", n, 0.0, 0, metrics={"loss": loss}) for n, loss in enumerate(metrics)]


def restored(stage: Stage, worker: int = 0) -> str | None:
    last = stage.outcomes[worker][-1]
    assert isinstance(last, RestoreDecided), last
    return last.name


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [("latest", "ckpt-3"), ("1", "ckpt-1"), ("best:loss:min", "ckpt-2"), ("best:loss:max", "ckpt-1")],
)
def test_the_selector_says_which(selector: str, chosen: str) -> None:
    stage = Stage(2, checkpoints(0.5, 0.9, 0.1, 0.4)).start_all()
    stage.restore(0, selector)
    stage.restore(1, selector)
    stage.verify(0)
    stage.verify(1)
    assert restored(stage, 0) == restored(stage, 1) == chosen


def test_the_best_of_corrupt_checkpoints_is_the_next_best() -> None:
    stage = Stage(1, checkpoints(0.5, 0.9, 0.1, float("nan"))).start_all()
    stage.restore(0, "best:loss:min")
    stage.verify(0, "a bit is wrong")
    stage.set_aside()
    stage.verify(0)
    assert restored(stage) == "ckpt-0"
    last = stage.outcomes[0][-1]
    assert isinstance(last, RestoreDecided)
    assert last.quarantined == ("ckpt-2",)


def test_a_new_directory_has_nothing_to_restore_and_that_is_no_error() -> None:
    stage = Stage(2).start_all()
    stage.restore(0)
    stage.restore(1)
    assert restored(stage) is None


def test_a_directory_whose_checkpoints_were_all_corrupt_is_not_taken_for_a_new_one() -> None:
    stage = Stage(1, set_aside=["ckpt-100"]).start_all()
    stage.restore(0)
    assert stage.cause(0).kind == "NoRestorableCheckpoint"
    assert "ckpt-100" in stage.cause(0).message


@pytest.mark.parametrize(
    ("selector", "kind", "told"),
    [
        ("7", "NoRestorableCheckpoint", "there is no checkpoint of step 7 (there are: 0, 1)"),
        ("best:accuracy:max", "NoRestorableCheckpoint", "no checkpoint has the metric 'accuracy'"),
        ("best:loss:sideways", "ConfigurationError", "restore of 'best:loss:sideways'"),
    ],
)
def test_what_cannot_be_restored_is_said(selector: str, kind: str, told: str) -> None:
    stage = Stage(1, checkpoints(0.5, 0.9)).start_all()
    stage.restore(0, selector)
    assert stage.cause(0).kind == kind
    assert told in stage.cause(0).message


def test_a_step_that_was_named_and_is_corrupt_is_not_replaced_by_another() -> None:
    stage = Stage(1, checkpoints(0.5, 0.9)).start_all()
    stage.restore(0, "1")
    stage.verify(0, "ckpt-1.index: it is missing")
    stage.set_aside()
    assert stage.cause(0) == Cause("CorruptCheckpoint", "ckpt-1: ckpt-1.index: it is missing")


def test_workers_that_want_different_checkpoints_are_told() -> None:
    stage = Stage(2, checkpoints(0.5, 0.9)).start_all()
    stage.restore(0)
    stage.restore(1, "1")
    assert "worker 0 restores 'latest', worker 1 restores '1'" in stage.cause(0).message


def test_a_worker_that_does_not_come_to_a_restore_is_named() -> None:
    stage = Stage(2).start_all()
    stage.restore(0)
    stage.wait(DEADLINES.announce_s + 0.1)
    assert stage.cause(0).kind == "WorkerMissing"
    assert stage.cause(0).worker == 1


def test_a_worker_that_cannot_read_ends_the_restore_and_condemns_no_checkpoint() -> None:
    stage = Stage(2, checkpoints(0.5)).start_all()
    stage.restore(0)
    stage.restore(1)
    stage.happen(1, events.VerifyFailed(stage.verifies.pop(1).round, Cause("WriteFailed", "worker 1: EIO", 1)))
    assert stage.cause(0) == stage.cause(1) == Cause("WriteFailed", "worker 1: EIO", 1)
    assert not stage.quarantines


def test_a_restore_that_takes_too_long_names_who_has_not_verified() -> None:
    stage = Stage(2, checkpoints(0.5)).start_all()
    stage.restore(0)
    stage.restore(1)
    stage.verify(0)
    stage.wait(DEADLINES.restore_s + 1)
    assert stage.cause(0).kind == "DeadlineExceeded"
    assert "worker 1" in stage.cause(0).message
    assert "worker 0" not in stage.cause(0).message


def test_a_restore_waits_for_the_save_that_is_being_written() -> None:
    stage = Stage(2).start_all()
    for worker in (0, 1):
        stage.save(worker)
        stage.restore(worker)
    stage.write_all()
    stage.commit()
    stage.wait(DEADLINES.resend_s)
    assert {part.name for part in stage.verifies.values()} == {"ckpt-100"}
