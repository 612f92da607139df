"""The demo's training with deadlines that a frozen worker can outlast. Arguments: the directory, the last step."""

from __future__ import annotations

import logging
import sys

import tensorflow as tf

import distckpt
from distckpt.launch.demo_classifier import SEED
from distckpt.launch.demo_training import MAX_TO_KEEP, Teller, Training, tell, train
from distckpt.protocol.deadlines import Deadlines

EVERY = 3
DEADLINES = Deadlines(silence_s=3.0, turn_s=1.0)


def main(directory: str, steps: int) -> None:
    logging.getLogger("distckpt").addHandler(Teller(logging.WARNING))
    tf.config.experimental.enable_op_determinism()
    tf.random.set_seed(SEED)
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    resolver = strategy.cluster_resolver
    place = (resolver.task_id, len(resolver.cluster_spec().job_tasks("worker")))
    training = Training(strategy)
    checkpoint = tf.train.Checkpoint(model=training.model, momenta=training.momenta, step=training.step)
    tell("started", worker=place[0])
    with distckpt.CheckpointManager(
        checkpoint,
        directory,
        MAX_TO_KEEP,
        strategy=strategy,
        save_policy=distckpt.EverySteps(EVERY),
        async_save=True,
        options=distckpt.Options(deadlines=DEADLINES),
    ) as manager:
        manager.restore_or_initialize()
        tell("resumed", step=int(training.step.numpy()))
        train(training, manager, steps, place)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
