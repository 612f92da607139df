"""In a tf.Graph with its session a manager of one worker does as TensorFlow's does; the two modes are never mixed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

import distckpt
from distckpt import errors


def test_in_a_session_it_saves_and_restores_as_tensorflow_does(tmp_path: Path) -> None:
    seen: dict[str, list[Any]] = {}
    for name, made in (("stock", tf.train.CheckpointManager), ("ours", distckpt.CheckpointManager)):
        told = seen[name] = []
        directory = tmp_path / name
        with tf.Graph().as_default(), tf.compat.v1.Session().as_default() as session:
            weight = tf.Variable(tf.range(10.0))
            step = tf.Variable(0, dtype=tf.int64)
            session.run([weight.initializer, step.initializer])
            checkpoint = tf.train.Checkpoint(weight=weight, step=step)
            manager = made(checkpoint, str(directory), 2, step_counter=step, checkpoint_interval=2)
            told.append(manager.restore_or_initialize())
            more = [weight.assign_add(tf.ones([10]), read_value=False), step.assign_add(1, read_value=False)]
            for _ in range(5):
                path = manager.save()
                told.append((path and Path(path).name, [Path(each).name for each in manager.checkpoints]))
                session.run(more)
            manager.save(checkpoint_number=step, check_interval=False)
            told.append(tf.train.list_variables(manager.latest_checkpoint))
            nodes = len(session.graph.get_operations())
            manager.save(checkpoint_number=77, check_interval=False)
            told.append(len(session.graph.get_operations()) - nodes)
            checkpoint.restore(manager.checkpoints[0]).run_restore_ops()
            told.append([session.run(each).tolist() for each in (weight, checkpoint.save_counter)])
            session.run(more)
            told.append(Path(manager.restore_or_initialize()).name)
            told.append(sorted(path.name for path in directory.glob("*.index")))
    assert seen["ours"] == seen["stock"]
    assert not distckpt.Catalog(tmp_path / "ours").verify(5)


def test_what_begins_eagerly_is_refused_in_a_graph_and_in_a_function_and_the_other_way_round(
    tmp_path: Path,
) -> None:
    checkpoint = tf.train.Checkpoint(weight=tf.Variable(0.0))
    with pytest.raises(errors.ConfigurationError, match=r"tf\.function"):
        tf.function(lambda: distckpt.CheckpointManager(checkpoint, str(tmp_path / "made"), 1), autograph=False)()
    assert not list(tmp_path.iterdir())
    with tf.Graph().as_default():
        graphs = distckpt.CheckpointManager(tf.train.Checkpoint(), str(tmp_path / "graph"), 1)
        with pytest.raises(errors.ConfigurationError, match="needs a session"):
            graphs.save()
    with graphs, pytest.raises(errors.ConfigurationError, match="is used only there"):
        graphs.save()
    with distckpt.CheckpointManager(checkpoint, str(tmp_path / "eager"), 1) as manager:
        for call in (manager.save, manager.restore_or_initialize):
            with tf.Graph().as_default(), pytest.raises(errors.ConfigurationError, match=r"tf\.Graph"):
                call()
            with pytest.raises(errors.ConfigurationError, match=r"tf\.function"):
                tf.function(call, autograph=False)()
