"""A walk and a restore are not held up by a full garbage collection, and leave the collector as it was."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
import tensorflow as tf

import distckpt
from distckpt.errors import CorruptCheckpoint
from distckpt.tensors import collection, restore, tracked


@pytest.fixture
def eager_to_collect() -> Iterator[list[int]]:
    """The generations that were collected; each new object is reason enough."""
    collected: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            collected.append(info["generation"])

    thresholds = gc.get_threshold()
    gc.callbacks.append(note)
    gc.set_threshold(1, 1, 1)
    try:
        yield collected
    finally:
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(note)
        assert gc.isenabled()


def test_nothing_is_collected_meanwhile_and_again_afterwards(eager_to_collect: list[int]) -> None:
    with collection.deferred():
        eager_to_collect.clear()
        kept = [[] for _ in range(100)]  # type: ignore[var-annotated]
        assert eager_to_collect == []
    kept += [[] for _ in range(100)]
    assert eager_to_collect


def test_it_is_on_again_after_an_error(eager_to_collect: list[int]) -> None:
    with pytest.raises(KeyError), collection.deferred():
        raise KeyError
    assert gc.isenabled()
    assert eager_to_collect


def test_who_has_switched_it_off_finds_it_off() -> None:
    gc.disable()
    try:
        with collection.deferred():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_walk_and_a_restore_defer_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def noting(module: object, name: str) -> None:
        original = getattr(module, name)

        def call(*arguments: object) -> object:
            seen.append(gc.isenabled())
            return original(*arguments)

        monkeypatch.setattr(module, name, call)

    noting(tracked.internals, "serialize")
    noting(restore, "_load")
    variable = tf.Variable([1.0, 2.0])
    with distckpt.CheckpointManager(tf.train.Checkpoint(variable=variable), tmp_path, 1) as manager:
        path = manager.save()
        manager.restore()
        assert seen == [False, False]
        Path(f"{path}.index").write_bytes(b"")
        with pytest.raises(CorruptCheckpoint):
            manager.restore(1)
    assert gc.isenabled()
