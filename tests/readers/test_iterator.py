"""What `checkpoints_iterator` promises beyond TensorFlow's: leases, nothing skipped, directories of any history."""

from __future__ import annotations

import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

import distckpt
from distckpt import iterator
from distckpt.bundle.statefile import CheckpointState, format_state
from distckpt.bundle.verify import verify
from distckpt.errors import ConfigurationError
from distckpt.storage.posix import PosixStorage

LEASES = ".distckpt/leases"


def names(paths: Any) -> list[str]:
    return [Path(path).name for path in paths]


def test_the_path_is_spelled_as_the_directory_was_given(
    new_job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    new_job(tmp_path / "run").save(7)
    for given in ("run", "./run", Path("run"), tmp_path / "run"):
        assert next(distckpt.checkpoints_iterator(given, timeout=0)) == f"{given}/ckpt-7"


def test_what_the_body_holds_is_not_retired_and_is_when_the_body_has_ended(new_job: Any, directory: Path) -> None:
    job = new_job(directory)
    job.save(1)
    paths = distckpt.checkpoints_iterator(directory, timeout=0)
    assert names([next(paths)]) == ["ckpt-1"]
    for step in (2, 3, 4):
        job.save(step)
    assert job.steps == [1, 4]
    assert verify(job.storage, "ckpt-1") == []
    assert names([next(paths)]) == ["ckpt-4"]
    job.save(5)
    assert job.steps == [4, 5]
    paths.close()
    job.save(6)
    assert job.steps == [6]
    assert job.storage.keys(LEASES) == []


def test_a_body_that_raises_or_breaks_lets_go(new_job: Any, directory: Path) -> None:
    job = new_job(directory)
    job.save(1)
    for _ in distckpt.checkpoints_iterator(directory):
        break
    with pytest.raises(ZeroDivisionError):
        [1 // 0 for path in distckpt.checkpoints_iterator(directory)]
    assert job.storage.keys(LEASES) == []


def test_without_every_the_newest_is_taken_and_those_between_are_skipped(new_job: Any, directory: Path) -> None:
    job = new_job(directory, keep=None)
    paths = distckpt.checkpoints_iterator(directory, timeout=0)
    seen = []
    for step in range(1, 10):
        job.save(step)
        if step % 3 == 0:
            seen.append(next(paths))
    assert names(seen) == ["ckpt-3", "ckpt-6", "ckpt-9"]


def test_with_every_none_is_skipped_however_slow_the_body(new_job: Any, directory: Path) -> None:
    job = new_job(directory)
    job.save(1)
    paths = distckpt.checkpoints_iterator(directory, timeout=0, every=True)
    seen = [next(paths)]
    for step in range(2, 300):  # more slots than the journal leaves uncompacted
        job.save(step)
    seen += paths
    assert names(seen) == [f"ckpt-{step}" for step in range(1, 300)]
    job.save(300)
    assert job.steps == [300]


def test_with_every_what_is_done_is_retired_while_the_rest_waits(
    new_job: Any, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distckpt.journal.holding.REWRITE_S", 0.0)
    job = new_job(directory)
    for step in range(1, 6):
        job.save(step)
        if step == 1:
            paths = distckpt.checkpoints_iterator(directory, timeout=0, every=True)
            next(paths)
    assert job.steps == [1, 2, 3, 4, 5]
    assert names(islice(paths, 2)) == ["ckpt-2", "ckpt-3"]
    job.save(6)
    assert job.steps == [3, 4, 5, 6]
    job.save(7)
    assert names(islice(paths, 2)) == ["ckpt-4", "ckpt-5"]
    job.save(8)
    assert job.steps == [5, 6, 7, 8]


def test_a_step_that_is_saved_again_comes_again_with_every(new_job: Any, directory: Path) -> None:
    job = new_job(directory)
    job.save(1)
    paths = distckpt.checkpoints_iterator(directory, timeout=0, every=True)
    seen = [next(paths)]
    job.save(1)
    assert names([*seen, *paths]) == ["ckpt-1", "ckpt-1"]


def test_one_that_was_set_aside_before_its_turn_is_passed_over(new_job: Any, directory: Path) -> None:
    job = new_job(directory)
    job.save(1)
    paths = distckpt.checkpoints_iterator(directory, timeout=0, every=True)
    next(paths)
    for step in (2, 3):
        job.save(step)
    list(islice(paths, 1))  # all three are in the queue
    for path in directory.glob("ckpt-3.data*"):
        path.write_bytes(b"")
    job.committer.quarantine("ckpt-3", "short")
    assert list(paths) == []


def test_a_commit_whose_files_have_not_their_names_yet_is_not_handed_out(
    new_job: Any, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = new_job(directory)
    job.save(1)
    monkeypatch.setattr(iterator, "is_visible", lambda *_: False)
    assert list(distckpt.checkpoints_iterator(directory, timeout=0)) == []
    assert list(distckpt.checkpoints_iterator(directory, timeout=0, every=True)) == []
    assert job.storage.keys(LEASES) == []


@pytest.mark.parametrize("every", [False, True])
def test_plain_tensorflows_directories_are_followed_by_their_state_file(
    every: bool,  # noqa: FBT001 - a parameter
    new_job: Any,
    directory: Path,
) -> None:
    job = new_job(directory, keep=None)
    for step in (1, 2, 3):
        job.save(step)
    state = CheckpointState("ckpt-2", ("ckpt-1", "ckpt-2"))
    shutil.rmtree(directory / ".distckpt")
    PosixStorage(directory).put("checkpoint", format_state(state))
    paths = distckpt.checkpoints_iterator(directory, timeout=0.3, every=every)
    seen = names(islice(paths, 2 if every else 1))
    assert seen == (["ckpt-1", "ckpt-2"] if every else ["ckpt-2"])
    PosixStorage(directory).put("checkpoint", format_state(CheckpointState("ckpt-3", ("ckpt-2", "ckpt-3"))))
    assert names(paths) == ["ckpt-3"]


def test_a_job_that_takes_a_tensorflow_directory_over_repeats_nothing(new_job: Any, directory: Path) -> None:
    job = new_job(directory, keep=None)
    for step in (1, 2):
        job.save(step)
    shutil.rmtree(directory / ".distckpt")
    paths = distckpt.checkpoints_iterator(directory, timeout=0, every=True)
    assert names(islice(paths, 2)) == ["ckpt-1", "ckpt-2"]
    heir = new_job(directory, keep=None)
    heir.save(3)
    assert names(paths) == ["ckpt-3"]


def test_best_is_of_those_that_have_the_metric_and_of_equals_the_older(new_job: Any, directory: Path) -> None:
    job = new_job(directory, keep=None)
    for step, loss in enumerate((0.5, float("nan"), 0.2, 0.2, 0.9), 1):
        job.save(step, loss=loss)
    job.save(6)
    catalog = distckpt.Catalog(directory)
    assert catalog.best("loss", "min").step == 3
    assert catalog.best("loss", "max").step == 5
    assert catalog.best("accuracy", "max") is None
    with pytest.raises(ConfigurationError, match='"min" or "max", not \'least\''):
        catalog.best("loss", "least")


def test_a_catalogs_lease_holds_one_checkpoint_while_the_body_runs(new_job: Any, directory: Path) -> None:
    job = new_job(directory)
    job.save(1, loss=float("nan"))
    with distckpt.Catalog(directory).lease(1) as path:
        assert path == str(directory / "ckpt-1")
        for step in (2, 3):
            job.save(step)
        assert job.steps == [1, 3]
    job.save(4)
    assert job.steps == [4]


def test_a_lease_of_what_is_not_there_is_refused_and_leaves_nothing(new_job: Any, directory: Path) -> None:
    job = new_job(directory)
    job.save(1)
    with pytest.raises(ConfigurationError, match="no checkpoint of step 2"), distckpt.Catalog(directory).lease(2):
        raise AssertionError("never here")
    assert job.storage.keys(LEASES) == []


def test_where_nobody_would_obey_a_lease_none_is_given(directory: Path) -> None:
    directory.mkdir()
    with pytest.raises(ConfigurationError, match="keeps no leases"), distckpt.Catalog(directory).lease(1):
        raise AssertionError("never here")
