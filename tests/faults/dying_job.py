"""A worker of a real MultiWorkerMirroredStrategy job that saves in the background, while one of them is killed.

Arguments: the directory, the index of the victim, and "saving" or "between". The victim is killed (SIGKILL) when its
share of the save of SAVED is written and not yet durable; or after KEPT, when step FIRST was saved and snapshots are
kept at the end of every KEPT_EVERY-th step. Nothing here handles what TensorFlow raises in the others: the script ends
by it, as a training script would. Started again by `distckpt run`, it prints where it goes on, and ends.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import tensorflow as tf

import distckpt
from distckpt.options import Options
from distckpt.storage.posix_staged import PosixStagedFile

SAVED = 3
FIRST, KEPT, KEPT_EVERY = 5, 8, 2
ROWS = 50_000


class Training(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """Weights that say how many steps they have seen."""

    def __init__(self, strategy: Any) -> None:
        super().__init__()
        self._strategy = strategy
        with strategy.scope():
            self.weights = tf.Variable(tf.zeros((ROWS, 4)))
            self.step = tf.Variable(0, dtype=tf.int64)

    @tf.function  # type: ignore[untyped-decorator]  # TensorFlow has no types
    def train(self) -> None:
        change = self._strategy.run(self._change)
        for variable in (self.weights, self.step):
            self._strategy.extended.update(
                variable, lambda each, by: each.assign_add(tf.cast(tf.fill(each.shape, by), each.dtype)), args=(change,)
            )

    def _change(self) -> Any:
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, tf.constant(1.0))


def die_at_the_seal() -> None:
    """From now on the first file that this process makes durable is its end."""

    def seal(_: PosixStagedFile) -> str:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("SIGKILL returned")

    PosixStagedFile.seal = seal  # type: ignore[method-assign]  # the death of this process stands there


def main(directory: str, victim: int, moment: str) -> None:
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    training = Training(strategy)
    checkpoint = tf.train.Checkpoint(training=training)
    manager = distckpt.CheckpointManager(
        checkpoint,
        directory,
        max_to_keep=None,
        strategy=strategy,
        save_policy=distckpt.EverySteps(SAVED if moment == "saving" else FIRST),
        async_save=True,
        options=Options(job="dying", snapshot_every=KEPT_EVERY if moment == "between" else None),
    )
    manager.restore_or_initialize()
    if os.environ["DISTCKPT_RESTARTS"] != "0":
        print(f"goes on from step {int(training.step.read_value())}")  # noqa: T201 - the test reads it
        manager.close()
        return
    for step in range(1, 1_000_000):
        training.train()
        if strategy.cluster_resolver.task_id == victim and moment == "between" and step == KEPT + 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if strategy.cluster_resolver.task_id == victim and moment == "saving" and step == SAVED:
            die_at_the_seal()
        manager.step_end(step if moment == "between" else min(step, SAVED + 1))
        if moment == "between" and step == FIRST:
            manager.wait()  # a save in flight would be what is taken over


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
