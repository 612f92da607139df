"""The demo's training with `preemption=`: saves at notices alone. Arguments: the directory, the last step.

Tells of each step before `step_end`, which may not return, and of where it goes on.
"""

from __future__ import annotations

import sys

import tensorflow as tf

import distckpt
from distckpt.launch.demo_classifier import SEED, digits
from distckpt.launch.demo_training import Training, batch_rows, tell


def main(directory: str, steps: int) -> None:
    tf.config.experimental.enable_op_determinism()
    tf.random.set_seed(SEED)
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    training = Training(strategy)
    checkpoint = tf.train.Checkpoint(model=training.model, momenta=training.momenta, step=training.step)
    (images, labels), _ = digits()
    with distckpt.CheckpointManager(
        checkpoint, directory, None, strategy=strategy, preemption=distckpt.Preemption(grace_s=15.0)
    ) as manager:
        manager.restore_or_initialize()
        first = int(training.step.numpy())
        tell("from", step=first)
        for step in range(first + 1, steps + 1):
            rows = batch_rows(step, len(labels), strategy.cluster_resolver.task_id, 2)
            training.train(images[rows], labels[rows])
            tell("step", step=step)
            manager.step_end(step)
        manager.save(checkpoint_number=steps)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
