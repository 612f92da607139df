"""What bad input gets: a clear error on every worker, and nothing lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distckpt import errors
from distckpt.bundle.verify import verify
from distckpt.journal.log import Journal
from distckpt.storage.posix import PosixStorage


def outcomes(tickets: Any) -> list[Any]:
    found = []
    for ticket in tickets:
        with pytest.raises(errors.DistckptError) as caught:
            ticket.outcome.result()
        found.append(caught.value)
    return found


def commit(workers: Any, step: Any, model: Any) -> None:
    for ticket in [worker.save(step, model) for worker in workers]:
        ticket.outcome.result()


def test_different_steps_are_refused_and_who_is_where_is_said(job: Any, model: Any) -> None:
    workers = job.start(2)
    commit(workers, 100, model)
    for error in outcomes([workers[0].save(110, model), workers[1].save(120, model)]):
        assert isinstance(error, errors.StepMismatch)
        assert "110" in str(error)
        assert "120" in str(error)
    commit(workers, 130, model)
    live = Journal.open(PosixStorage(job.directory)).state.live
    assert [each.step for each in live] == [100, 130]
    assert len(PosixStorage(job.directory).staged()) == sum(len(each.files) for each in live)


def test_a_worker_that_does_not_come_to_a_save_is_named(job: Any, model: Any) -> None:
    workers = job.start(2)
    (error,) = outcomes([workers[0].save(1, model)])
    assert isinstance(error, errors.WorkerMissing)
    assert error.worker == 1
    assert "worker 1" in str(error)
    assert "last heard of" in str(error)


def test_a_worker_that_never_joined_is_named(job: Any, model: Any) -> None:
    begun = job.begin(2)
    begun[1].result(30).session.close()
    (error,) = outcomes([begun[0].result(30).save(1, model)])
    assert isinstance(error, errors.SaveAborted)
    assert error.worker == 1


def test_different_models_are_refused_and_the_first_tensor_that_differs_is_named(job: Any, model: Any) -> None:
    workers = job.start(2)
    other = {**model, "kernel": np.zeros((256, 300), np.float32)}
    for error in outcomes([workers[0].save(1, model), workers[1].save(1, other)]):
        assert isinstance(error, errors.ModelMismatch)
        assert "kernel" in str(error)
        assert "300" in str(error)


def test_a_worker_that_cannot_capture_aborts_the_save_of_all_with_its_cause(job: Any, model: Any) -> None:
    workers = job.start(2)
    ticket = workers[0].save(1, model)
    workers[1].session.agent.refuse_save(errors.UnsupportedState("a dataset without a serialisable iterator"))
    (error,) = outcomes([ticket])
    assert "a dataset without a serialisable iterator" in str(error)
    assert error.worker == 1


def test_a_directory_that_is_another_one_on_a_worker_is_refused(job: Any, tmp_path: Path) -> None:
    begun = job.begin(2, directories=[tmp_path / "here", tmp_path / "there"])
    with pytest.raises(errors.DirectoryMismatch, match="same shared directory"):
        begun[1].result(30)
    begun[0].result(30)


def test_a_directory_that_cannot_be_made_is_refused(job: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (begun,) = job.begin(1, directories=[tmp_path / "file" / "checkpoints"])
    with pytest.raises(errors.DirectoryNotWritable, match="file"):
        begun.result(30)


def test_what_keeps_the_chief_out_is_told_to_all_workers(tmp_path: Path, new_job: Any) -> None:
    (tmp_path / "file").write_text("in the way")
    for begun in new_job(tmp_path / "file" / "checkpoints").begin(2):
        with pytest.raises(errors.DirectoryNotWritable, match="file"):
            begun.result(30)


def test_a_worker_whose_chief_never_comes_says_so(tmp_path: Path, new_job: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("distckpt.runtime.session.PosixStorage.create", _killed)
    monkeypatch.setattr("distckpt.runtime.session.tell_failure", lambda *_: None)
    begun = new_job(tmp_path).begin(2)
    with pytest.raises(errors.CoordinatorUnreachable, match="same CheckpointManagers"):
        begun[1].result(30)


def _killed(*_: Any) -> None:
    raise RuntimeError("as if it had been killed")


def test_a_restart_of_the_same_job_takes_over_and_fences_its_predecessor(
    tmp_path: Path, new_job: Any, model: Any
) -> None:
    old, new = new_job(tmp_path), new_job(tmp_path)
    before = old.start(2)
    commit(before, 1, model)
    after = new.start(2)
    commit(after, 2, model)
    for error in outcomes([worker.save(3, model) for worker in before]):
        assert isinstance(error, errors.Fenced)
        assert "generation 2" in str(error)
    assert [each.step for each in Journal.open(PosixStorage(tmp_path)).state.live] == [1, 2]
    assert verify(PosixStorage(tmp_path), "ckpt-2") == []


def test_another_job_is_refused_while_the_first_is_alive_and_let_in_after_it_left(
    tmp_path: Path, new_job: Any, model: Any
) -> None:
    first = new_job(tmp_path)
    commit(first.start(1, job="first"), 1, model)
    with pytest.raises(errors.DirectoryInUse, match="first"):
        new_job(tmp_path).start(1, job="second")
    first.stop()
    (second,) = new_job(tmp_path).start(1, job="second")
    assert [each.name for each in second.session.checkpoints] == ["ckpt-1"]


def test_a_worker_that_leaves_with_a_save_open_is_named(job: Any, model: Any) -> None:
    workers = job.start(2)
    ticket = workers[0].save(1, model)
    workers[1].session.close()
    (error,) = outcomes([ticket])
    assert isinstance(error, errors.SaveAborted)
    assert error.worker == 1
