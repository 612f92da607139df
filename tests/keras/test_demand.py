"""Saves of `fit` that no worker foresaw: SIGUSR1, `distckpt save-now`, the clock, notices; and what a batch costs."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tf_keras

import distckpt
from distckpt.keras import DistributedCheckpoint, fit
from distckpt.observe.step_file import VARIABLE, read_steps

BATCHES = 3
DEADLINE_S = 60.0
NEVER = distckpt.EverySeconds(3600)
X = np.random.default_rng(5).random((24, 4)).astype(np.float32)
Y = X.sum(axis=1, keepdims=True)

both = pytest.mark.parametrize("flavour", [keras, tf_keras], ids=["keras3", "tf_keras"])


def build(flavour: Any) -> Any:
    flavour.utils.set_random_seed(1)
    model = flavour.Sequential([flavour.layers.Input((4,)), flavour.layers.Dense(1)])
    model.compile("adam", "mse")
    return model


def train(model: Any, *callbacks: Any, epochs: int = 3) -> Any:
    return model.fit(X, Y, epochs=epochs, batch_size=8, shuffle=False, verbose=0, callbacks=list(callbacks))


def at(flavour: Any, epoch: int, batch: int, action: Callable[[], object]) -> Any:
    """A callback that acts at the end of one batch."""

    class At(flavour.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.epoch = epoch

        def on_train_batch_end(self, ended: int, logs: Any = None) -> None:
            if (self.epoch, ended) == (epoch, batch):
                action()

    return At()


def kept(directory: Path) -> list[int]:
    return [each.step for each in distckpt.Catalog(directory).checkpoints]


def interrupt() -> None:
    raise InterruptedError


def send(signum: signal.Signals) -> None:
    os.kill(os.getpid(), signum)


@pytest.fixture
def agreed(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], None]]:
    """Waits until the coordinator says that a step was agreed on: it is the one that the training ends next."""
    said = threading.Event()

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "all save at step" in record.getMessage():
                said.set()

    ear, log = Ear(), logging.getLogger("distckpt")
    caplog.set_level(logging.INFO, "distckpt")
    log.addHandler(ear)

    def wait() -> None:
        assert said.wait(DEADLINE_S)

    yield wait
    log.removeHandler(ear)


@pytest.fixture
def signals() -> Iterator[None]:
    """They are afterwards as they were."""
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


def assert_goes_on_bitwise(flavour: Any, model: Any, directory: Path, epoch: int) -> None:
    """`model`, trained anew from what `directory` holds, ends as one that nobody disturbed."""
    undisturbed = build(flavour)
    expected = train(undisturbed)
    history = train(model, DistributedCheckpoint(directory))
    assert history.epoch == [0, 1, 2]
    assert history.history == expected.history, f"epoch {epoch} reports all of its batches"
    for found, value in zip(model.get_weights(), undisturbed.get_weights(), strict=True):
        np.testing.assert_array_equal(found, value)


@both
def test_sigusr1_saves_at_the_end_of_the_batch_and_a_crash_goes_on_from_there(
    flavour: Any, agreed: Callable[[], None], tmp_path: Path
) -> None:
    def ask() -> None:
        send(signal.SIGUSR1)
        agreed()

    callback = DistributedCheckpoint(tmp_path, save_freq=False, save_policy=NEVER)
    with pytest.raises(InterruptedError):
        train(build(flavour), at(flavour, 1, 1, ask), callback, at(flavour, 1, 2, interrupt))
    (checkpoint,) = distckpt.Catalog(tmp_path).checkpoints
    assert checkpoint.step == BATCHES + 2
    assert set(checkpoint.metrics) == {"loss"}
    assert_goes_on_bitwise(flavour, build(flavour), tmp_path, 1)


def test_save_now_is_answered_with_the_checkpoint_of_that_batch_and_the_epochs_end_is_saved_as_ever(
    agreed: Callable[[], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asking: list[subprocess.Popen[str]] = []
    told: list[str] = []

    def ask() -> None:
        command = [sys.executable, "-m", "distckpt.cli.main", "save-now", str(tmp_path)]
        asking.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        agreed()

    def hear() -> None:
        told.append(asking[0].communicate(timeout=DEADLINE_S)[0])

    callback = DistributedCheckpoint(tmp_path, verbose=1, max_to_keep=None)
    train(build(keras), at(keras, 0, 1, ask), callback, at(keras, 0, 1, hear), epochs=2)
    assert told[0].startswith("ckpt-2 is committed, ")
    assert kept(tmp_path) == [2, BATCHES, 2 * BATCHES]
    assert capsys.readouterr().out.count(f"Epoch 1: saved {tmp_path}/ckpt-2\n") == 1


def test_a_save_that_is_asked_for_where_one_is_due_is_that_one(
    agreed: Callable[[], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask() -> None:
        send(signal.SIGUSR1)
        agreed()

    callback = DistributedCheckpoint(tmp_path, verbose=1, save_freq=2, max_to_keep=None)
    train(build(keras), at(keras, 0, 1, ask), callback, epochs=1)
    assert kept(tmp_path) == [2]
    assert capsys.readouterr().out.count("saved") == 1


@both
def test_an_asked_for_save_of_the_last_batch_and_the_epochs_own_are_of_one_step(
    flavour: Any, agreed: Callable[[], None], tmp_path: Path
) -> None:
    def ask() -> None:
        send(signal.SIGUSR1)
        agreed()

    train(build(flavour), at(flavour, 0, 2, ask), DistributedCheckpoint(tmp_path), epochs=1)
    assert kept(tmp_path) == [BATCHES]
    assert_goes_on_bitwise(flavour, build(flavour), tmp_path, 1)


def test_the_clock_saves_at_the_end_of_a_batch(agreed: Callable[[], None], tmp_path: Path) -> None:
    always = distckpt.EverySeconds(1e-9)
    callback = DistributedCheckpoint(tmp_path, save_freq=False, save_policy=always, max_to_keep=None)
    train(build(keras), callback, at(keras, 0, 0, agreed), epochs=1)
    assert kept(tmp_path)[0] == 2, "wanted after the first batch, and saved after the next"


@pytest.mark.usefixtures("signals")
@both
def test_at_a_notice_fit_saves_ends_with_the_chosen_code_and_goes_on_from_that_batch(
    flavour: Any, agreed: Callable[[], None], tmp_path: Path
) -> None:
    def notice() -> None:
        send(signal.SIGTERM)
        agreed()

    callback = DistributedCheckpoint(tmp_path, save_freq=False, preemption=distckpt.Preemption(exit_code=85))
    with pytest.raises(SystemExit) as ended:
        train(build(flavour), at(flavour, 1, 0, notice), callback)
    assert ended.value.code == 85
    assert kept(tmp_path) == [BATCHES + 1]
    assert_goes_on_bitwise(flavour, build(flavour), tmp_path, 1)


@both
def test_whoever_waits_for_a_hung_worker_hears_of_each_batch_and_of_the_end(
    flavour: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(tmp_path / "steps")
    monkeypatch.setenv(VARIABLE, file)
    heard: list[int] = []
    callback = DistributedCheckpoint(tmp_path / "job")
    ears = [at(flavour, 1, batch, lambda: heard.append(read_steps(file).last)) for batch in range(BATCHES)]
    train(build(flavour), callback, *ears, epochs=2)
    assert heard == [BATCHES + 1, BATCHES + 2, BATCHES + 3]
    assert read_steps(file).last_at == float("inf"), "what comes after fit is no hung step"


@both
def test_a_shorter_last_execution_of_an_epoch_is_counted_as_the_optimizer_does(
    flavour: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(tmp_path / "steps")
    monkeypatch.setenv(VARIABLE, file)
    heard: list[int] = []
    model = build(flavour)
    model.compile("adam", "mse", steps_per_execution=2)

    class Ear(flavour.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            heard.append(read_steps(file).last)

    train(model, DistributedCheckpoint(tmp_path / "job"), Ear(), epochs=2)
    assert heard == [2, 3, 5, 6]


def test_tf_keras_does_not_wait_for_a_batch_that_is_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    class Noted(fit.Steps):
        def read(self) -> None:
            read.append("steps")
            super().read()

    monkeypatch.setattr(fit, "Steps", Noted)
    monkeypatch.setattr(fit, "metric_values", lambda _: read.append("metrics"))
    callback = DistributedCheckpoint(tmp_path)
    assert tf_keras.callbacks.CallbackList([callback])._batch_hooks_support_tf_logs, "as tensors, without a copy"
    train(build(tf_keras), at(tf_keras, 0, 0, read.clear), callback, at(tf_keras, 0, 2, lambda: read.append("end")))
    assert read[:1] == ["end"], "nothing before it"


def test_keras_3_treats_its_batches_no_otherwise_than_without_the_callback(tmp_path: Path) -> None:
    """It turns each batch's logs into numbers, whatever its callbacks are, unless its backend is safe for threads."""
    bare = keras.callbacks.CallbackList([])
    ours = keras.callbacks.CallbackList([DistributedCheckpoint(tmp_path)])
    for kind in ("_async_train", "_async_test", "_async_predict"):
        assert getattr(ours, kind) == getattr(bare, kind)
