"""A training loop of one's own on several workers, with a model of Keras 3 (whose `fit` does not work there).

    distckpt run --workers 2 --max-restarts 3 -- python examples/custom_loop.py DIRECTORY [STEPS]

Kill a worker in the middle (`kill -9`): all are started again, and go on from the last commit. Tell it to go
(`kill -TERM`): all save at the end of the step, and nothing is lost. What the model is worth meanwhile,
examples/evaluator.py tells.
"""

from __future__ import annotations

import sys
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import distckpt

STEPS = 30
SAVE_EVERY = 5
BATCH = 32
EXAMPLES = 320
RADIUS = 0.8


def points(seed: int) -> tuple[Any, Any]:
    """Points, and whether each lies within a circle."""
    drawn = np.random.default_rng(seed).uniform(-1, 1, (EXAMPLES, 2)).astype(np.float32)
    return drawn, (np.square(drawn).sum(axis=1, keepdims=True) < RADIUS**2).astype(np.float32)


def data() -> Any:
    """Endless batches, the same ones each time: batch n is that of step n."""
    return tf.data.Dataset.from_tensor_slices(points(seed=7)).batch(BATCH, drop_remainder=True).repeat()


def build() -> Any:
    return keras.Sequential(
        [keras.layers.Input((2,)), keras.layers.Dense(16, activation="relu"), keras.layers.Dense(1)]
    )


def main(directory: str, steps: int) -> None:
    keras.utils.set_random_seed(7)
    tf.config.experimental.enable_op_determinism()
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    with strategy.scope():
        model = build()
        optimizer = keras.optimizers.Adam(0.02)
        optimizer.build(model.trainable_variables)  # before the restore, so that all that is restored is there
        step = tf.Variable(0, dtype=tf.int64)

    def one_replica(batch: tuple[Any, Any]) -> Any:
        inputs, inside = batch
        with tf.GradientTape() as tape:
            losses = keras.losses.binary_crossentropy(inside, model(inputs, training=True), from_logits=True)
            loss = tf.nn.compute_average_loss(losses, global_batch_size=BATCH)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    @tf.function
    def train(batch: tuple[Any, Any]) -> Any:
        loss = strategy.reduce("SUM", strategy.run(one_replica, args=(batch,)), axis=None)
        step.assign_add(1)
        return loss

    checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer, step=step)
    every_few_steps = distckpt.EverySteps(SAVE_EVERY)
    with distckpt.CheckpointManager(
        checkpoint, directory, max_to_keep=3, strategy=strategy, save_policy=every_few_steps, preemption=True
    ) as manager:
        manager.restore_or_initialize()
        done = int(step.numpy())
        sys.stdout.write(f"{done} of {steps} steps are done\n")
        for batch in strategy.experimental_distribute_dataset(data().skip(done).take(steps - done)):
            loss = train(batch)
            done += 1
            manager.step_end(done)
            sys.stdout.write(f"step {done}: loss {float(loss):.4f}\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else STEPS)  # noqa: PLR2004 - the second argument
