"""A `fit` of two flavours of Keras, which may kill itself after a number of batches; run by test_resume.py.

Arguments: one JSON object: flavour ("keras" or "tf_keras"), replicas, directory, die (after so many batches; 0: never).
Prints one line of JSON at the end: what `fit` returned, and the digests of the weights and of those it exported.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import signal
import sys
from typing import Any

import numpy as np
import tensorflow as tf

from distckpt.keras import DistributedCheckpoint

TOLD = json.loads(sys.argv[1])
keras: Any = importlib.import_module(TOLD["flavour"])


class Diary(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Counts the batches, kills the process after a given number of them, and notes what the model has in the end."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = 0
        self.end = ""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.batches += 1
        if self.batches == TOLD["die"]:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.end = digest(self.model)


def model() -> Any:
    layers = [keras.layers.Input((4,)), keras.layers.Dense(8, activation="tanh")]
    if TOLD["flavour"] == "keras":
        layers.append(keras.layers.Dropout(0.3))  # its random generator's state is saved: tf_keras has none to save
    built = keras.Sequential([*layers, keras.layers.Dense(1)])
    built.compile("adam", "mse", metrics=["mae"])
    return built


def digest(of: Any) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in of.get_weights())).hexdigest()


def main() -> None:
    count = TOLD["replicas"]
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    keras.utils.set_random_seed(3)
    tf.config.experimental.enable_op_determinism()
    devices = [f"CPU:{index}" for index in range(count)]
    strategy = tf.distribute.MirroredStrategy(devices) if count > 1 else tf.distribute.get_strategy()
    with strategy.scope():
        trained = model()
    inputs = np.random.default_rng(1).random((40, 4)).astype(np.float32)
    targets = inputs.sum(axis=1, keepdims=True)
    diary = Diary()
    last, best = (TOLD["directory"] + name for name in ("-last.keras", "-best.keras"))
    # The highest loss counts as the best one, so that the best model is another than the last.
    checkpoint = DistributedCheckpoint(
        TOLD["directory"], "loss", mode="max", save_best_only=True, save_freq=3, export=last, export_best=best
    )
    history = trained.fit(
        inputs,
        targets,
        epochs=3,
        batch_size=8,
        shuffle=False,
        validation_data=(inputs, targets),
        callbacks=[checkpoint, diary],
        verbose=0,
    )
    told = {
        "epochs": history.epoch,
        "history": {name: [float(value) for value in values] for name, values in history.history.items()},
        "weights": digest(trained),
        "trained": diary.end,
        "last": digest(keras.models.load_model(last)),
        "best": digest(keras.models.load_model(best)),
        "batches": diary.batches,
    }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
