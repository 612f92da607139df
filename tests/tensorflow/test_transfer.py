"""Only a part of a checkpoint, another run's, another object's: and every checkpoint is TensorFlow's to read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

import distckpt


class Layer(tf.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.kernel = tf.Variable(tf.fill([40, 30], value))

    @property
    def value(self) -> float:
        return float(self.kernel[0, 0])


def pretrained(directory: Path, *values: float, **arguments: Any) -> Any:
    """A manager of a backbone with a head, that has saved each of `values`."""
    backbone, head = Layer(0.0), Layer(0.0)
    checkpoint = tf.train.Checkpoint(backbone=backbone, head=head)
    manager = distckpt.CheckpointManager(checkpoint, str(directory), None, **arguments)
    for value in values:
        for layer in (backbone, head):
            layer.kernel.assign(tf.fill([40, 30], value))
        manager.save()
    return manager


def break_a_byte(directory: Path, name: str) -> None:
    (shard,) = directory.glob(f"{name}.data-*")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)


def test_a_backbone_goes_into_another_model_and_the_rest_stays(tmp_path: Path) -> None:
    with pretrained(tmp_path, 1.0, 2.0) as manager:
        other, new_head = Layer(7.0), Layer(8.0)
        status = manager.restore(1, into=tf.train.Checkpoint(backbone=other))
        status.assert_existing_objects_matched().expect_partial()
        with pytest.raises(AssertionError, match="head"):
            status.assert_consumed()
        assert (other.value, new_head.value) == (1.0, 8.0)
        assert manager.checkpoint.backbone.value == 2.0, "its own is as it was"
        later = tf.train.Checkpoint()
        manager.restore("latest", into=later).expect_partial()
        later.backbone = Layer(7.0)  # made later, as a layer that is built by its first call
        assert later.backbone.value == 2.0


def test_a_part_of_a_corrupt_checkpoint_changes_nothing(tmp_path: Path) -> None:
    with pretrained(tmp_path, 1.0, 2.0) as manager:
        break_a_byte(tmp_path, "ckpt-2")
        other = Layer(7.0)
        with pytest.raises(distckpt.errors.CorruptCheckpoint):
            manager.restore(2, into=tf.train.Checkpoint(backbone=other))
        assert other.value == 7.0
        manager.restore(into=tf.train.Checkpoint(backbone=other)).expect_partial()
        assert other.value == 1.0


def test_a_new_run_begins_with_a_part_of_another_runs_best(tmp_path: Path) -> None:
    """As docs/migrating.md shows it."""
    source = pretrained(tmp_path / "pretraining", 1.0)
    source.save(metrics={"accuracy": 0.5})
    source.close()
    backbone, head = Layer(7.0), Layer(8.0)

    def from_pretraining() -> None:
        catalog = distckpt.Catalog(tmp_path / "pretraining")
        best = catalog.best("accuracy", "max")
        assert best is not None
        with catalog.lease(best.step) as path:
            assert not catalog.verify(best.step)
            tf.train.Checkpoint(backbone=backbone).restore(path).expect_partial()

    checkpoint = tf.train.Checkpoint(backbone=backbone, head=head)
    for restarted in (False, True):
        arguments = {"init_fn": from_pretraining}
        with distckpt.CheckpointManager(checkpoint, str(tmp_path / "run"), 3, **arguments) as manager:
            assert (manager.restore_or_initialize() is not None) == restarted
            assert (backbone.value, head.value) == ((5.0, 8.0) if restarted else (1.0, 8.0))
            backbone.kernel.assign(tf.fill([40, 30], 5.0))
            manager.save()


def test_tensorflow_loads_every_checkpoint_there_is(tmp_path: Path) -> None:
    tf.train.Checkpoint(weight=tf.Variable(1.0)).save(str(tmp_path / "before"))
    arguments = {"keep_checkpoint_every_n_hours": 1e-9, "checkpoint_name": "sub/model"}
    with pretrained(tmp_path, 1.0, 2.0, 3.0, retention=distckpt.KeepLatest(1), **arguments):
        pass
    with pretrained(tmp_path, 4.0):
        pass
    checkpoints = distckpt.Catalog(tmp_path).checkpoints
    assert {each.name for each in checkpoints if each.preserved} >= {"sub/model-1", "sub/model-2"}
    assert {each.name for each in checkpoints if each.adopted} == {"before-1"}
    assert "ckpt-1" in {each.name for each in checkpoints}
    for each in checkpoints:
        reader = tf.train.load_checkpoint(str(tmp_path / each.name))
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)


def test_several_managers_for_several_objects_work_side_by_side(tmp_path: Path) -> None:
    generator = pretrained(tmp_path / "generator", async_save=True, checkpoint_name="g")
    critic = pretrained(tmp_path / "critic", async_save=True, checkpoint_name="c")
    for value in (1.0, 2.0, 3.0):
        for manager, factor in ((generator, 1.0), (critic, 10.0)):
            manager.checkpoint.backbone.kernel.assign(tf.fill([40, 30], value * factor))
            manager.save()
    for manager, name, values in ((generator, "g", (2.0, 3.0)), (critic, "c", (20.0, 30.0))):
        manager.restore(2)
        found = [manager.checkpoint.backbone.value]
        manager.restore_or_initialize()
        found.append(manager.checkpoint.backbone.value)
        assert tuple(found) == values
        assert [Path(path).name for path in manager.checkpoints] == [f"{name}-{number}" for number in (1, 2, 3)]
        manager.close()


def test_managers_with_names_of_their_own_in_one_directory_leave_each_others_checkpoints_alone(tmp_path: Path) -> None:
    checkpoint = tf.train.Checkpoint(step=tf.Variable(0))
    latest = distckpt.CheckpointManager(checkpoint, str(tmp_path), 2)
    best = distckpt.CheckpointManager(checkpoint, str(tmp_path), 1, checkpoint_name="ckpt-best")
    for number in (1, 2, 3):
        latest.save(checkpoint_number=number)
        best.save(checkpoint_number=number)
    latest.close()
    best.save(checkpoint_number=4)
    best.close()
    assert {path.stem for path in tmp_path.glob("*.index")} == {"ckpt-2", "ckpt-3", "ckpt-best-4"}
