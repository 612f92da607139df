"""The demo's training script: what every worker runs, and an example of how to use distckpt in a custom loop.

    python -m distckpt.launch.demo_training DIR STEPS EVERY

Trains until STEPS, saving every EVERY steps into DIR; a start after a crash goes on from the last commit. Every step is
a pure function of the weights and the step's number, so an interrupted training ends with the bits of one that was not.
What happens is told on stdout, a JSON object a line; see `tell`.
"""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import asdict
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

import distckpt
from distckpt.launch.demo_classifier import SEED, Classifier, Examples, digits
from distckpt.manager import CheckpointManager
from distckpt.report import SaveReport

BATCH = 120
LEARNING_RATE = 0.05
MOMENTUM = 0.9
MAX_TO_KEEP = 3


def tell(event: str, **what: object) -> None:
    """One line for the demo, in one write: `started`, `resumed`, `step`, `saved`, `log` or `done`."""
    sys.stdout.write(json.dumps({"event": event, **what}) + "\n")


class Teller(logging.Handler):
    """Passes what distckpt logs on to the demo."""

    def emit(self, record: logging.LogRecord) -> None:
        tell("log", level=record.levelname, text=record.getMessage())


class Training(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """The model, the momenta of its weights, and the number of steps done: all that a checkpoint must hold."""

    def __init__(self, strategy: Any) -> None:
        super().__init__()
        self._strategy = strategy
        with strategy.scope():
            self.model = Classifier()
            self.momenta = [tf.Variable(tf.zeros_like(each), name="momentum") for each in self.model.variables]
            self.step = tf.Variable(0, dtype=tf.int64, name="step")

    @tf.function  # type: ignore[untyped-decorator]  # TensorFlow has no types
    def train(self, images: Any, labels: Any) -> Any:
        """One step on this worker's part of a batch. Returns the loss, averaged over the whole batch."""
        loss, gradients = self._strategy.run(self._gradients, (images, labels))
        for weight, momentum, gradient in zip(self.model.variables, self.momenta, gradients, strict=True):
            self._update(momentum, lambda value, change: value.assign(MOMENTUM * value + change), gradient)
            self._update(weight, lambda value, change: value.assign_sub(LEARNING_RATE * change), momentum)
        self._update(self.step, lambda value, change: value.assign_add(change), tf.constant(1, tf.int64))
        return loss

    def _gradients(self, images: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, self.model.logits(images))
            loss = tf.reduce_sum(losses) / BATCH
        gradients = tape.gradient(loss, self.model.variables)
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, (loss, gradients))

    def _update(self, variable: Any, change: Any, argument: Any) -> None:
        self._strategy.extended.update(variable, change, args=(argument,))


def batch_rows(step: int, examples: int, worker: int, workers: int) -> NDArray[np.int64]:
    """Which examples worker `worker` takes in step `step`: its part of a batch of `BATCH`, drawn anew for each step."""
    rows = np.random.default_rng((SEED, step)).permutation(examples)[:BATCH]
    return rows[worker::workers]


def train(training: Training, manager: CheckpointManager, until: int, place: tuple[int, int]) -> None:
    """Trains to step `until`. `place` is (this worker's index, number of workers)."""
    (images, labels), _ = digits()
    reported = None
    for step in range(int(training.step.numpy()) + 1, until + 1):
        rows = batch_rows(step, len(labels), *place)
        loss = training.train(images[rows], labels[rows])
        manager.step_end(step)
        tell("step", step=step, loss=float(loss))
        reported = tell_saved(manager.last_save, reported)
    manager.wait()
    tell_saved(manager.last_save, reported)


def tell_saved(report: SaveReport | None, reported: SaveReport | None) -> SaveReport | None:
    """Tells of a save when it is new. Returns what has been told last."""
    if report is not None and report != reported:
        tell("saved", **asdict(report))
    return report


def main(directory: str, steps: int, every: int) -> None:
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
        max_to_keep=MAX_TO_KEEP,
        strategy=strategy,
        save_policy=distckpt.EverySteps(every),
        async_save=True,
    ) as manager:
        if manager.restore_or_initialize() is not None:
            tell("resumed", step=int(training.step.numpy()))
        train(training, manager, steps, place)
    held_out: Examples = digits()[1]
    tell("done", step=steps, accuracy=training.model.accuracy(held_out))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
