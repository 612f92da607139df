"""`fit` of tf_keras on several workers, which goes on where it was when it is started again.

    distckpt run --workers 2 --max-restarts 3 -- python examples/keras_fit.py DIRECTORY

Kill a worker in the middle (`kill -9`): all are started again, and resume in the middle of the epoch. Tell one to go
(`kill`): all save first, and no batch is lost. At the end DIRECTORY/model.keras is the best model.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from distckpt.keras import DistributedCheckpoint

EPOCHS = 4
BATCH = 32
EXAMPLES = 320
RADIUS = 0.8


def data() -> Any:
    """The batches of one epoch, in the same order each time: so a resumed training is that of an undisturbed one."""
    rng = np.random.default_rng(7)
    points = rng.uniform(-1, 1, (EXAMPLES, 2)).astype(np.float32)
    inside = (np.square(points).sum(axis=1, keepdims=True) < RADIUS**2).astype(np.float32)  # within a circle?
    batches = tf.data.Dataset.from_tensor_slices((points, inside)).batch(BATCH)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.with_options(options)


def main(directory: str) -> None:
    tf_keras.utils.set_random_seed(7)
    tf.config.experimental.enable_op_determinism()
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    with strategy.scope():
        model = tf_keras.Sequential(
            [
                tf_keras.layers.Input((2,)),
                tf_keras.layers.Dense(16, activation="relu"),
                tf_keras.layers.Dense(1, activation="sigmoid"),
            ]
        )
        model.compile(tf_keras.optimizers.Adam(0.02), "binary_crossentropy", metrics=["accuracy"])
    checkpoint = DistributedCheckpoint(
        directory,
        monitor="val_accuracy",
        save_best_only=True,
        save_freq=4,
        preemption=True,
        export_best=f"{directory}/model.keras",
        verbose=1,
    )
    history = model.fit(data(), epochs=EPOCHS, validation_data=data(), callbacks=[checkpoint], verbose=0)
    for epoch, accuracy in zip(history.epoch, history.history["val_accuracy"], strict=True):
        sys.stdout.write(f"epoch {epoch + 1}: {accuracy:.1%} right\n")


if __name__ == "__main__":
    main(sys.argv[1])
