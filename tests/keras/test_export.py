"""`export` and `export_best`: the form goes by the name, the values are right, and a crash costs nothing old."""

from __future__ import annotations

import logging
import os
import shutil
from itertools import count
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from distckpt.errors import ConfigurationError, StorageNoSpace
from distckpt.keras import DistributedCheckpoint
from distckpt.keras.export import export

X = np.random.default_rng(5).random((24, 4)).astype(np.float32)
Y = X.sum(axis=1, keepdims=True)
RATES = (0.1, 0.01, 0.001)

both = pytest.mark.parametrize("flavour", [keras, tf_keras], ids=["keras3", "tf_keras"])


def build(flavour: Any) -> Any:
    flavour.utils.set_random_seed(1)
    layers = [flavour.layers.Dense(3), flavour.layers.BatchNormalization()]
    if flavour is keras:
        layers.append(keras.layers.Dropout(0.2))  # its random generator's state is saved: tf_keras has none to save
    model = flavour.Sequential([flavour.layers.Input((4,)), *layers, flavour.layers.Dense(1)])
    model.compile("adam", "mse", metrics=["mae"])
    return model


def fit(flavour: Any, directory: Path, *callbacks: Any, epochs: int = 3, **arguments: Any) -> Any:
    """Trains with a learning rate of its own in each epoch, so that the optimizer's differ too; returns the model."""
    model = build(flavour)
    rates = flavour.callbacks.LearningRateScheduler(lambda epoch: RATES[epoch])
    checkpoint = DistributedCheckpoint(directory, **arguments)
    given = [rates, *callbacks, checkpoint]
    model.fit(X, Y, epochs=epochs, batch_size=8, shuffle=False, verbose=0, callbacks=given)
    return model


class Keeping:
    """A callback that reports `score`, one value an epoch, and keeps what the model has at the end of each."""

    def __init__(self, flavour: Any, *scores: float) -> None:
        self.ends: list[list[Any]] = []

        def end(callback: Any, epoch: int, logs: Any = None) -> None:
            logs["score"] = scores[epoch]
            self.ends.append(callback.model.get_weights())

        self.callback = type("Keeping", (flavour.callbacks.Callback,), {"on_epoch_end": end})()


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def assert_same(found: list[Any], expected: list[Any]) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def loaded(flavour: Any, path: Path) -> Any:
    """What the file holds, as a function of the input."""
    if path.name.endswith(".weights.h5"):
        model = build(flavour)
        model.load_weights(str(path))
        return model.predict(X, verbose=0)
    if not path.suffix and flavour is keras:
        artifact = tf.saved_model.load(str(path))  # its functions do not hold its variables
        return artifact.serve(X).numpy()
    # Not compiled: Keras 3 cannot load the name "mse" of its own legacy HDF5 files.
    return flavour.models.load_model(str(path), compile=False).predict(X, verbose=0)


@both
def test_the_form_goes_by_the_name_and_what_was_there_is_replaced(flavour: Any, tmp_path: Path) -> None:
    model = build(flavour)
    model.fit(X, Y, verbose=0)
    for name in ("model.keras", "model.h5", "model.weights.h5", "model"):
        target = tmp_path / name / name
        for value in (1.0, 2.0):
            model.layers[-1].bias.assign([value])
            export(model, target, is_chief=True)
            assert names(target.parent) == [name], "nothing else is left"
            np.testing.assert_allclose(loaded(flavour, target), model.predict(X, verbose=0), rtol=1e-5)


@both
def test_the_best_is_written_as_it_was_and_the_last_stays_in_the_model(flavour: Any, tmp_path: Path) -> None:
    keeping = Keeping(flavour, 0.2, 0.9, 0.5)
    given = {"monitor": "score", "mode": "max", "save_best_only": True, "max_to_keep": 1}
    best, last = tmp_path / "best.keras", tmp_path / "last.keras"
    model = fit(flavour, tmp_path / "one", keeping.callback, export=last, export_best=best, **given)
    plain = fit(flavour, tmp_path / "other", Keeping(flavour, 0.2, 0.9, 0.5).callback, **given)
    assert_same(flavour.models.load_model(best).get_weights(), keeping.ends[1])
    assert_same(flavour.models.load_model(last).get_weights(), keeping.ends[2])
    assert_same(model.get_weights(), keeping.ends[2])
    ours, theirs = model.optimizer, plain.optimizer
    assert_same([each.numpy() for each in ours.variables], [each.numpy() for each in theirs.variables])
    assert float(ours.learning_rate.numpy()) == pytest.approx(RATES[2])
    model.fit(X, Y, epochs=1, batch_size=8, shuffle=False, verbose=0)
    plain.fit(X, Y, epochs=1, batch_size=8, shuffle=False, verbose=0)
    assert_same(model.get_weights(), plain.get_weights())


def test_a_training_that_died_before_its_export_does_it_when_it_is_started_again(tmp_path: Path) -> None:
    fit(keras, tmp_path / "checkpoints", Keeping(keras, 0.1, 0.2, 0.3).callback)
    given = {"monitor": "loss", "save_best_only": True, "export_best": tmp_path / "best.keras"}
    model = fit(keras, tmp_path / "checkpoints", export=tmp_path / "last.keras", **given)
    assert_same(keras.models.load_model(tmp_path / "last.keras").get_weights(), model.get_weights())
    assert (tmp_path / "best.keras").exists()
    assert len(model.history.history["loss"]) == 3, "the history of all epochs, though the best was restored"


def test_without_a_best_one_nothing_is_written_and_it_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    old = tmp_path / "best.keras"
    old.write_text("of an earlier training")
    with caplog.at_level(logging.ERROR, "distckpt"):
        fit(keras, tmp_path / "checkpoints", monitor="val_loss", save_best_only=True, export_best=old, epochs=1)
    assert "there is no best model to write to" in caplog.text
    assert "no checkpoint has the metric 'val_loss'" in caplog.text
    assert old.read_text() == "of an earlier training"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"export": "model.kears"}, "export to model.kears: give a name that ends in"),
        ({"export_best": "model.keras"}, "export_best takes save_best_only=True"),
    ],
)
def test_what_cannot_be_is_refused(arguments: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=message):
        DistributedCheckpoint(tmp_path, **arguments)


class Writing:
    """Stands in for a model: the deaths are the files', not Keras'."""

    def __init__(self, content: str) -> None:
        self._content = content

    def save(self, path: str) -> None:
        if path.endswith(".keras"):
            Path(path).write_text(self._content)
        else:
            Path(path).mkdir()
            (Path(path) / "variables").write_text(self._content)


def content(target: Path) -> str | None:
    file = target if target.suffix else target / "variables"
    return file.read_text() if file.exists() else None


@pytest.mark.parametrize("name", ["model.keras", "model"])
def test_a_death_at_any_operation_leaves_the_old_one_or_the_new_one_whole(
    name: str, faulty: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    for number in count():
        target = tmp_path / str(number) / name
        export(Writing("old"), target, is_chief=True)
        with monkeypatch.context() as patched:
            died = dying(patched, number, faulty.Crash)
            try:
                export(Writing("new"), target, is_chief=True)
            except faulty.Crash:
                assert died
        found = content(target)
        aside = [path.read_text() for path in target.parent.glob(f".{name}.*/old/variables")]
        assert found in {"old", "new"} or (found is None and not target.suffix and aside == ["old"])
        seen.add(found)
        export(Writing("newest"), target, is_chief=True)
        assert content(target) == "newest"
        assert names(target.parent) == [name]
        if not died:
            break
    assert seen == ({"old", "new"} if target.suffix else {"old", "new", None})


def dying(patched: pytest.MonkeyPatch, number: int, crash: type[BaseException]) -> list[str]:
    """The process dies before its `number`-th operation on files: that one and all later ones have no effect."""
    left = number
    died: list[str] = []

    def mortal(operation: Any) -> Any:
        def called(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                died.append(operation.__name__)
                raise crash
            return operation(*arguments, **named)

        return called

    for module, name in [(os, "fsync"), (os, "rename"), (os, "replace"), (os, "mkdir"), (shutil, "rmtree")]:
        patched.setattr(module, name, mortal(getattr(module, name)))
    return died


def test_a_full_disk_leaves_the_old_one_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "model.keras"
    export(Writing("old"), target, is_chief=True)

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageNoSpace, match=r"model.keras: No space left on device \(ENOSPC\)"):
        export(Writing("new"), target, is_chief=True)
    assert content(target) == "old"
    assert names(tmp_path) == ["model.keras"]


@pytest.mark.parametrize("name", ["model.keras", "model"])
def test_what_gets_the_name_is_durable_before_and_the_name_after(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, replace = os.fsync, os.replace
    calls: list[tuple[str, int]] = []

    def synced(fd: int) -> None:
        calls.append(("fsync", os.fstat(fd).st_ino))
        fsync(fd)

    def replaced(source: Path, target: Path) -> None:
        calls.append(("replace", source.stat().st_ino))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    target = tmp_path / name
    export(Writing("new"), target, is_chief=True)
    inside = [target, *target.glob("*")]
    named = calls.index(("replace", target.stat().st_ino))
    assert {("fsync", path.stat().st_ino) for path in inside} <= set(calls[:named])
    assert calls[named + 1 :] == [("fsync", tmp_path.stat().st_ino)]
