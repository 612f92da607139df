"""`DistributedCheckpoint` in one process: what it saves, keeps, says and refuses, with both flavours of Keras."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import distckpt
from distckpt.errors import ConfigurationError, NoRestorableCheckpoint
from distckpt.keras import DistributedCheckpoint
from distckpt.keras.progress import Progress

BATCHES = 3
X = np.random.default_rng(5).random((24, 4)).astype(np.float32)
Y = X.sum(axis=1, keepdims=True)

both = pytest.mark.parametrize("flavour", [keras, tf_keras], ids=["keras3", "tf_keras"])


def build(flavour: Any = keras) -> Any:
    model = flavour.Sequential([flavour.layers.Input((4,)), flavour.layers.Dense(1)])
    model.compile("adam", "mse")
    return model


def fit(model: Any, *callbacks: Any, epochs: int = 2, **arguments: Any) -> Any:
    given: dict[str, Any] = {"batch_size": 8, "shuffle": False, "verbose": 0, **arguments}
    return model.fit(X, Y, epochs=epochs, callbacks=list(callbacks), **given)


def scores(flavour: Any, *values: float) -> Any:
    """A callback that reports `score`, one value an epoch."""

    class Scores(flavour.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            logs["score"] = values[epoch]

    return Scores()


class Raising:
    """Makes a callback that raises at a hook, as a training that is interrupted."""

    def __init__(self, hook: str) -> None:
        self._hook = hook

    def of(self, flavour: Any) -> Any:
        def interrupt(*_: Any, **__: Any) -> None:
            raise InterruptedError(self._hook)

        return type("Raising", (flavour.callbacks.Callback,), {self._hook: interrupt})()


def kept(directory: Path) -> list[int]:
    return [each.step for each in distckpt.Catalog(directory).checkpoints]


@both
def test_each_epoch_is_saved_under_the_optimizers_count_with_keras_logs_as_metrics(
    flavour: Any, tmp_path: Path
) -> None:
    history = fit(build(flavour), DistributedCheckpoint(tmp_path), validation_data=(X, Y))
    checkpoints = distckpt.Catalog(tmp_path).checkpoints
    assert [each.step for each in checkpoints] == [BATCHES, 2 * BATCHES]
    for epoch, each in enumerate(checkpoints):
        assert dict(each.metrics) == {name: values[epoch] for name, values in history.history.items()}
        assert set(each.metrics) == {"loss", "val_loss"}


@both
def test_steps_are_counted_across_epochs(flavour: Any, tmp_path: Path) -> None:
    fit(build(flavour), DistributedCheckpoint(tmp_path, save_freq=2, max_to_keep=None), epochs=3)
    assert kept(tmp_path) == [2, 4, 6, 8]


@both
def test_plain_tensorflow_restores_model_and_optimizer(flavour: Any, tmp_path: Path) -> None:
    trained, fresh = build(flavour), build(flavour)
    fit(trained, DistributedCheckpoint(tmp_path))
    fresh.optimizer.build(fresh.trainable_variables)
    checkpoint = tf.train.Checkpoint(model=fresh, optimizer=fresh.optimizer)
    checkpoint.restore(tf.train.latest_checkpoint(str(tmp_path))).assert_existing_objects_matched()
    for found, expected in zip(fresh.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert int(fresh.optimizer.iterations.numpy()) == 2 * BATCHES


@both
def test_the_best_are_kept_beside_the_newest(flavour: Any, tmp_path: Path) -> None:
    callback = DistributedCheckpoint(tmp_path, "score", mode="max", save_best_only=True, max_to_keep=1)
    fit(build(flavour), scores(flavour, 0.1, 0.9, 0.3, 0.2), callback, epochs=4)
    assert kept(tmp_path) == [2 * BATCHES, 4 * BATCHES]


def test_the_best_survives_a_restart(tmp_path: Path) -> None:
    def callback() -> Any:
        return DistributedCheckpoint(tmp_path, "score", mode="min", save_best_only=True, max_to_keep=1)

    fit(build(), scores(keras, 0.2, 0.1), callback(), epochs=2)
    fit(build(), scores(keras, 0.2, 0.1, 0.5, 0.4), callback(), epochs=4)
    assert kept(tmp_path) == [2 * BATCHES, 4 * BATCHES]


def test_what_does_not_reach_the_threshold_is_no_best_one(tmp_path: Path) -> None:
    callback = DistributedCheckpoint(
        tmp_path, "score", mode="max", save_best_only=True, max_to_keep=1, initial_value_threshold=0.5
    )
    fit(build(), scores(keras, 0.4, 0.3, 0.2), callback, epochs=3)
    assert kept(tmp_path) == [3 * BATCHES], "none is kept but the newest"


def test_a_metric_that_is_not_there_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "distckpt"):
        fit(build(), DistributedCheckpoint(tmp_path, "val_loss", save_best_only=True), epochs=1)
    assert "val_loss is not among the logs (loss)" in caplog.text


def test_verbose_says_what_is_saved_and_where_it_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(build(), DistributedCheckpoint(tmp_path, "loss", verbose=1, save_best_only=True), epochs=1)
    fit(build(), DistributedCheckpoint(tmp_path, "loss", verbose=1, save_best_only=True), epochs=2)
    said = capsys.readouterr().out
    assert "Epoch 1: loss improved from none to " in said
    assert f"Epoch 1: saved {tmp_path}/ckpt-{BATCHES}\n" in said
    assert "Epoch 2: going on from batch 1\n" in said


@both
def test_a_finished_training_has_nothing_left_to_do(flavour: Any, tmp_path: Path) -> None:
    first = fit(build(flavour), DistributedCheckpoint(tmp_path))
    model = build(flavour)
    again = fit(model, DistributedCheckpoint(tmp_path))
    assert again.history == first.history
    assert again.epoch == [0, 1]
    assert kept(tmp_path) == [BATCHES, 2 * BATCHES]
    assert fit(model, epochs=1).epoch == [0], "a fit without the callback is not affected"


@both
def test_an_interrupted_fit_goes_on_in_the_same_process(flavour: Any, tmp_path: Path) -> None:
    model = build(flavour)
    callback = DistributedCheckpoint(tmp_path)
    with pytest.raises(InterruptedError):
        fit(model, callback, Raising("on_test_begin").of(flavour), validation_data=(X, Y))
    with pytest.raises(InterruptedError):
        fit(model, callback, Raising("on_epoch_end").of(flavour))
    history = fit(model, callback)
    assert history.epoch == [0, 1]
    assert len(history.history["loss"]) == 2


@both
def test_a_job_killed_between_the_last_batch_and_the_end_of_an_epoch_ends_that_epoch(
    flavour: Any, tmp_path: Path
) -> None:
    def callback(name: str) -> Any:
        return DistributedCheckpoint(tmp_path / name, save_freq=BATCHES)

    flavour.utils.set_random_seed(1)
    expected = fit(build(flavour), callback("undisturbed"), validation_data=(X, Y))
    flavour.utils.set_random_seed(1)
    with pytest.raises(InterruptedError):
        fit(build(flavour), callback("killed"), Raising("on_test_begin").of(flavour), validation_data=(X, Y))
    resumed = fit(build(flavour), callback("killed"), validation_data=(X, Y))
    assert resumed.epoch == [0, 1]
    assert resumed.history == expected.history


def test_saves_behind_the_training_are_committed_when_fit_returns(tmp_path: Path) -> None:
    fit(build(), DistributedCheckpoint(tmp_path, save_freq=1, async_save=True, max_to_keep=2))
    assert kept(tmp_path) == [2 * BATCHES - 1, 2 * BATCHES]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"save_freq": 0}, "save_freq is 'epoch', a positive number of batches, or False, not 0"),
        ({"save_freq": "step"}, "not 'step'"),
        ({"save_freq": True}, "not True"),
        ({"save_freq": False}, "takes a save_policy, or preemption"),
        ({"save_policy": distckpt.KeepLatest(3)}, "save_policy takes EverySteps"),
        ({"preemption": "SIGTERM"}, "preemption= takes True"),
        ({"save_best_only": True, "monitor": "score"}, "is more or less of 'score' better"),
        ({"save_best_only": True, "mode": "best"}, "mode is 'auto', 'min' or 'max', not 'best'"),
    ],
)
def test_what_cannot_be_is_refused(arguments: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=message):
        DistributedCheckpoint(tmp_path, **arguments)


@both
def test_a_model_that_is_not_built_is_refused(flavour: Any, tmp_path: Path) -> None:
    model = flavour.Sequential([flavour.layers.Dense(1)])
    model.compile("adam", "mse")
    with pytest.raises(ConfigurationError, match="build it before fit"):
        fit(model, DistributedCheckpoint(tmp_path), epochs=1)


def test_another_ones_checkpoints_are_refused(tmp_path: Path) -> None:
    with distckpt.CheckpointManager(tf.train.Checkpoint(step=tf.Variable(1)), tmp_path, 1) as manager:
        manager.save()
    with pytest.raises(ConfigurationError, match="no DistributedCheckpoint wrote"):
        fit(build(), DistributedCheckpoint(tmp_path))


def test_progress_is_json_that_keeps_every_bit() -> None:
    written, read = Progress(best=0.25), Progress(best=None)
    written.epoch_ended(0, {"loss": np.float32(0.1), "lists": np.array([1.5, 2.5]), "bad": float("nan")})
    values = [np.float32([[0.1, 1e-30]]), np.asarray(7), tf.constant([1.1], tf.bfloat16).numpy()]
    written.batch_ended(1, 4, {"loss": tf.constant(0.3)}, values)
    read.deserialize(written.serialize())
    assert (read.epoch, read.batch, read.best, read.restored) == (1, 4, 0.25, True)
    assert read.logs == {"loss": pytest.approx(0.3)}
    assert read.history["lists"] == [[1.5, 2.5]]
    assert np.isnan(read.history["bad"][0])
    for found, expected in zip(read.metrics, values, strict=True):
        assert found.dtype == expected.dtype
        assert found.tobytes() == expected.tobytes()
        assert found.shape == expected.shape


def flip_a_bit(directory: Path, step: int) -> None:
    path = directory / f"ckpt-{step}.data-00000-of-00001"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_fit_goes_on_from_the_newest_checkpoint_that_is_sound_and_never_from_scratch(tmp_path: Path) -> None:
    fit(build(), DistributedCheckpoint(tmp_path), epochs=2)
    flip_a_bit(tmp_path, 2 * BATCHES)
    model = build()
    assert fit(model, DistributedCheckpoint(tmp_path), epochs=2).epoch == [0, 1]
    assert int(model.optimizer.iterations.numpy()) == 2 * BATCHES, "the second epoch was trained again"
    for step in kept(tmp_path):
        flip_a_bit(tmp_path, step)
    with pytest.raises(NoRestorableCheckpoint):
        fit(build(), DistributedCheckpoint(tmp_path), epochs=2)
