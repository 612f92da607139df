"""An evaluator beside a job: tells how good each checkpoint is, as soon as it is committed.

    python examples/evaluator.py DIRECTORY &
    distckpt run --workers 2 --max-restarts 3 -- python examples/custom_loop.py DIRECTORY

Start it before the job or while it runs, on any machine that has the directory. The job keeps three checkpoints; from
the evaluator's start on none is left out, and none is deleted before its turn has come. It ends with the job's last
step, or when nothing comes for long.
"""

from __future__ import annotations

import sys

import keras
import tensorflow as tf
from custom_loop import STEPS, build, points

import distckpt

PATIENCE_S = 120


def main(directory: str) -> None:
    model, step = build(), tf.Variable(0, dtype=tf.int64)
    checkpoint = tf.train.Checkpoint(model=model, step=step)  # of what was saved, what an evaluator needs
    inputs, inside = points(seed=8)  # not those that were trained on
    sys.stdout.write(f"waiting for checkpoints in {directory}\n")
    sys.stdout.flush()
    for path in distckpt.checkpoints_iterator(directory, timeout=PATIENCE_S, every=True):
        checkpoint.restore(path).expect_partial()
        logits = model(inputs, training=False)
        loss = keras.ops.mean(keras.losses.binary_crossentropy(inside, logits, from_logits=True))
        right = keras.ops.mean(keras.metrics.binary_accuracy(inside, logits, threshold=0.0))
        sys.stdout.write(f"step {int(step.numpy())}: loss {float(loss):.4f}, {float(right):.1%} right\n")
        sys.stdout.flush()
        if int(step.numpy()) == STEPS:
            break


if __name__ == "__main__":
    main(sys.argv[1])
