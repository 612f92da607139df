"""A training, watched: the scalars that TensorBoard draws, written by TensorFlow itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

import distckpt
from distckpt.errors import ConfigurationError
from distckpt.observe.looking import Looker


def drawn(directory: Path) -> dict[tuple[str, int], float]:
    """What stands in the event files: by name and step."""
    found = {}
    for path in directory.glob("events.out.tfevents.*"):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name == "scalars"
                found[value.tag, event.step] = float(tf.make_ndarray(value.tensor))
    return found


@pytest.fixture
def checkpoint() -> Any:
    return tf.train.Checkpoint(weight=tf.Variable(tf.ones([50, 20])))


@pytest.mark.parametrize(
    "target", [Path, lambda logs: tf.summary.create_file_writer(str(logs))], ids=["path", "writer"]
)
def test_each_save_is_drawn_at_its_step(tmp_path: Path, checkpoint: Any, target: Callable[[Path], Any]) -> None:
    logs = tmp_path / "logs"
    options = distckpt.Options(tensorboard=target(logs))
    with distckpt.CheckpointManager(checkpoint, tmp_path / "run", 3, options=options) as manager:
        for number in (10, 20):
            manager.save(checkpoint_number=number)
    found = drawn(logs)
    for step in (10, 20):
        size = sum(path.stat().st_size for path in (tmp_path / "run").glob(f"ckpt-{step}.*"))
        assert found["distckpt/bytes", step] == size
        assert found["distckpt/save_seconds", step] >= found["distckpt/commit_seconds", step] > 0


@pytest.mark.parametrize("option", ["metrics", "dashboard"])
def test_an_address_that_is_none_is_refused_before_anything_runs(option: str) -> None:
    with pytest.raises(ConfigurationError, match=option):
        distckpt.Options(**{option: "9480"})


def test_the_reasons_are_those_of_the_manager_s_own_retention(tmp_path: Path, checkpoint: Any) -> None:
    first = distckpt.CheckpointManager(checkpoint, tmp_path, 2, checkpoint_name="first")
    with first, distckpt.CheckpointManager(checkpoint, tmp_path, 1, checkpoint_name="second") as second:
        for number in (1, 2):
            first.save(checkpoint_number=number)
        second.save(checkpoint_number=3)
        with Looker(str(tmp_path)) as looker:
            kept = {each.name: each.kept for each in looker.look().checkpoints}
    assert kept == {
        "first-1": ("of another CheckpointManager",),
        "first-2": ("of another CheckpointManager",),
        "second-3": ("the newest", "the last"),
    }
