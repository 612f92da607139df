"""`tf.train.checkpoints_iterator` and ours, side by side: the same calls, the same paths, the same calls back."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

import distckpt

Iterate = Callable[..., Iterator[str]]
BOTH = pytest.mark.parametrize(
    "iterate", [tf.train.checkpoints_iterator, distckpt.checkpoints_iterator], ids=["tensorflow", "distckpt"]
)


@pytest.fixture
def plain(directory: Path) -> Any:
    """Plain TensorFlow's own manager."""
    return tf.train.CheckpointManager(tf.train.Checkpoint(v=tf.Variable(1.0)), str(directory), max_to_keep=3)


def test_the_arguments_are_tensorflows_and_every_is_by_keyword() -> None:
    theirs = inspect.signature(tf.train.checkpoints_iterator).parameters
    ours = inspect.signature(distckpt.checkpoints_iterator).parameters
    assert [(each.name, each.default) for each in theirs.values()] == [
        (each.name, each.default) for each in list(ours.values())[: len(theirs)]
    ]
    assert [each.name for each in list(ours.values())[len(theirs) :]] == ["every"]
    assert ours["every"].kind is inspect.Parameter.KEYWORD_ONLY


@BOTH
def test_without_a_checkpoint_and_without_a_function_a_timeout_ends_it(iterate: Iterate, directory: Path) -> None:
    assert list(iterate(str(directory), timeout=0)) == []
    directory.mkdir()
    assert list(iterate(str(directory), timeout=0)) == []


@BOTH
@pytest.mark.parametrize("kind", ["plain", "ours"])
def test_the_newest_comes_once_and_the_next_when_it_is_there(
    iterate: Iterate, kind: str, new_job: Any, directory: Path, request: pytest.FixtureRequest
) -> None:
    save = request.getfixturevalue("plain").save if kind == "plain" else new_job(directory, keep=3).save
    save(1)
    save(2)
    paths = iterate(str(directory), timeout=0)
    seen = [next(paths)]
    save(3)
    seen += paths
    assert seen == [str(directory / "ckpt-2"), str(directory / "ckpt-3")]


@BOTH
def test_the_same_path_saved_again_does_not_come_again(iterate: Iterate, new_job: Any, directory: Path) -> None:
    job = new_job(directory)
    job.save(1)
    paths = iterate(str(directory), timeout=0)
    next(paths)
    job.save(1)
    assert list(paths) == []


@BOTH
def test_after_a_timeout_the_function_decides(iterate: Iterate, new_job: Any, directory: Path) -> None:
    calls = []

    def save_at_the_third_call() -> bool:
        calls.append(len(calls))
        if len(calls) == 3:
            new_job(directory).save(1)
        return len(calls) == 5

    assert list(iterate(str(directory), timeout=0, timeout_fn=save_at_the_third_call)) == [str(directory / "ckpt-1")]
    assert calls == [0, 1, 2, 3, 4]


@BOTH
def test_the_function_is_asked_after_each_body_too(iterate: Iterate, new_job: Any, directory: Path) -> None:
    new_job(directory).save(1)
    log = []
    for _ in iterate(str(directory), timeout_fn=lambda: not log.append("asked")):
        log.append("body")  # noqa: PERF401 - in this order
    assert log == ["body", "asked"]


@BOTH
@pytest.mark.parametrize(("body_s", "expected"), [(0.0, 5.0), (2.0, 3.0), (9.0, 0.0)])
def test_the_interval_counts_from_where_the_body_began(
    iterate: Iterate, body_s: float, expected: float, new_job: Any, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_job(directory).save(1)
    naps: list[float] = []
    clock = [1000.0]
    monkeypatch.setattr(time, "sleep", naps.append)
    monkeypatch.setattr(time, "time", lambda: clock[0])
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    for _ in iterate(str(directory), min_interval_secs=5, timeout_fn=lambda: True):
        clock[0] += body_s
    assert sum(naps) == pytest.approx(expected)


@BOTH
def test_a_step_back_after_the_newest_was_deleted_is_something_new(
    iterate: Iterate, new_job: Any, directory: Path
) -> None:
    job = new_job(directory, keep=3)
    for step in (1, 2):
        job.save(step)
    paths = iterate(str(directory), timeout=0)
    seen = [next(paths)]
    for path in directory.glob("ckpt-2.data*"):
        path.write_bytes(b"")
    job.committer.quarantine("ckpt-2", "short")
    seen += paths
    assert seen == [str(directory / "ckpt-2"), str(directory / "ckpt-1")]
