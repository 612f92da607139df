"""A job with parameter servers, one process for each task; run by test_parameter_servers.py, with TF_CONFIG set.

Usage: parameter_servers.py DIRECTORY STORY. A task that is not the chief serves until it is killed. The chief trains
through a ClusterCoordinator, or restores what another cluster saved, and prints one line of JSON after each part of its
story; it goes on when it reads a line.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf

import distckpt

ROWS = 30
STEPS = 4


class Training:
    """An embedding that is sharded over all parameter servers, and variables that are on one of them each."""

    def __init__(self, directory: str) -> None:
        resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
        servers = len(resolver.cluster_spec().as_dict()["ps"])
        partitioner = tf.distribute.experimental.partitioners.FixedShardsPartitioner(servers)
        self.strategy = tf.distribute.ParameterServerStrategy(resolver, variable_partitioner=partitioner)
        self.coordinator = tf.distribute.coordinator.ClusterCoordinator(self.strategy)
        with self.strategy.scope():
            self.embedding = tf.Variable(tf.zeros([ROWS, 4]))
            self.kernel = tf.Variable(tf.zeros([4, 4]))
            self.step = tf.Variable(0, dtype=tf.int64)
        self.own = tf.Variable("the coordinator's")
        self.checkpoint = tf.train.Checkpoint(
            embedding=self.embedding, kernel=self.kernel, step=self.step, own=self.own
        )
        self.manager = distckpt.CheckpointManager(self.checkpoint, directory, 3, strategy=self.strategy)

    def train(self) -> None:
        """STEPS steps, on whichever worker takes them."""

        def update() -> None:
            for shard in self.embedding.variables:
                shard.assign_add(tf.ones_like(shard))
            self.kernel.assign_add(tf.eye(4))
            self.step.assign_add(1)

        function = tf.function(lambda: self.strategy.run(update))
        for _ in range(STEPS):
            self.coordinator.schedule(function)
        self.coordinator.join()

    def seen(self) -> dict[str, Any]:
        values = tf.convert_to_tensor(self.embedding).numpy()
        return {
            "shards": len(self.embedding.variables),
            "embedding": sorted(set(values.ravel().tolist())),
            "trace": float(tf.linalg.trace(self.kernel)),
            "step": int(self.step.numpy()),
            "own": self.own.numpy().decode(),
        }


def saves(training: Training) -> Iterator[dict[str, Any]]:
    """Saves twice; a parameter server is killed before the second one."""
    training.train()
    path = training.manager.save(checkpoint_number=training.step)
    training.train()  # the checkpoint is what was there when it was saved
    tensors = {name: tf.train.load_variable(path, name) for name, _ in tf.train.list_variables(path)}
    yield {
        "embedding": sorted(set(tensors["embedding/.ATTRIBUTES/VARIABLE_VALUE"].ravel().tolist())),
        "step": int(tensors["step/.ATTRIBUTES/VARIABLE_VALUE"]),
    }
    try:
        training.manager.save(checkpoint_number=99)
    except tf.errors.OpError as error:
        yield {"error": type(error).__name__}


def restores(training: Training) -> Iterator[dict[str, Any]]:
    path = training.manager.restore_or_initialize()
    found = training.seen()
    training.train()
    training.manager.save(checkpoint_number=training.step)
    yield {**found, "path": path, "then": training.seen()["step"]}


def main() -> None:
    task = json.loads(os.environ["TF_CONFIG"])["task"]
    if task["type"] != "chief":
        resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
        server = tf.distribute.Server(
            resolver.cluster_spec(), job_name=task["type"], task_index=task["index"], protocol="grpc"
        )
        server.join()
    for told in {"saves": saves, "restores": restores}[sys.argv[2]](Training(sys.argv[1])):
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
        sys.stdin.readline()


if __name__ == "__main__":
    main()
