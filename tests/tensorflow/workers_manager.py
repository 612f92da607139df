"""One of two workers that save and restore through `distckpt.CheckpointManager`; run by test_manager_workers.py.

Usage: workers_manager.py FOLDER, with TF_CONFIG set. Prints one line of JSON: for each story what this worker saw.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

import distckpt
from distckpt.protocol.deadlines import Deadlines
from distckpt.storage.posix import PosixStorage
from distckpt.tensors import exchange

SHORT = distckpt.Options(deadlines=Deadlines(announce_s=3.0))


class Worker:
    """A model with mirrored variables, one that aggregates on read, and a plain one that differs between workers."""

    def __init__(self, strategy: Any, folder: Path) -> None:
        self.strategy = strategy
        self.folder = folder
        self.index = strategy.cluster_resolver.task_id
        with strategy.scope():
            self.embedding = tf.Variable(tf.zeros([2000, 32]))
            self.kernels = [tf.Variable(tf.zeros([64, 64])) for _ in range(4)]
            self.average = tf.Variable(
                0.0,
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.MEAN,
            )
            self.step = tf.Variable(0, dtype=tf.int64)
        self.private = tf.Variable(float(self.index))
        self.checkpoint = tf.train.Checkpoint(
            embedding=self.embedding, kernels=self.kernels, average=self.average, step=self.step, private=self.private
        )

        def update() -> None:
            for variable in (self.embedding, *self.kernels):
                variable.assign_add(tf.ones_like(variable))
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            self.average.assign_add(tf.cast(replica, tf.float32))
            self.step.assign_add(1)

        self.train = tf.function(lambda: strategy.run(update))

    def manager(self, name: str, checkpoint: Any = None, keep: int = 3, **arguments: Any) -> Any:
        return distckpt.CheckpointManager(
            checkpoint or self.checkpoint, str(self.folder / name), keep, strategy=self.strategy, **arguments
        )

    def meet(self) -> None:
        """A collective: no worker gets past it before all have come."""
        float(self.average.read_value())

    def values(self) -> list[float]:
        return [
            float(self.embedding[0, 0]),
            float(self.average.read_value()),
            int(self.step.numpy()),
            float(self.private),
        ]


def error_of(call: Callable[[], Any]) -> list[str]:
    try:
        call()
    except distckpt.errors.DistckptError as error:
        return [type(error).__name__, str(error)]
    return ["", ""]


def saves_and_restores(worker: Worker) -> Any:
    """Blocking saves, then back to the first and to the newest."""
    with worker.manager("plain") as manager:
        begun = manager.restore_or_initialize()
        for _ in range(3):
            worker.train()
            manager.save(checkpoint_number=worker.step)
        report = manager.last_save
        manager.restore(1)
        first = worker.values()
        manager.restore_or_initialize()
        newest = worker.values()
    return {
        "begun": begun,
        "first": first,
        "newest": newest,
        "checkpoints": [Path(path).name for path in manager.checkpoints],
        "bytes_by_worker": report.bytes_by_worker,
    }


def saves_behind_the_step(worker: Worker) -> Any:
    with worker.manager("behind", async_save=True, save_policy=distckpt.EverySteps(2)) as manager:
        start = int(worker.step.numpy())
        for step in range(1, 7):
            worker.train()
            manager.step_end(step)
        manager.wait()
        manager.restore(2)
        return int(worker.step.numpy()) - start


def refusals(worker: Worker) -> Any:
    """Each ends with the same error on both workers, and the next save goes through."""
    found = {}
    with worker.manager("refused", options=SHORT) as manager:
        found["steps"] = error_of(lambda: manager.save(checkpoint_number=100 + worker.index))
        found["missing"] = ["", ""]
        if worker.index == 0:  # without distckpt the collective of the average would hang here
            begun = time.monotonic()
            found["missing"] = error_of(lambda: manager.save(checkpoint_number=200))
            found["waited_s"] = time.monotonic() - begun
        worker.meet()
        found["after"] = Path(manager.save(checkpoint_number=300)).name
    odd = {"odd": worker.kernels[0]} if worker.index else {}
    with worker.manager("odd", tf.train.Checkpoint(alike=worker.step, **odd)) as manager:
        found["models"] = error_of(lambda: manager.save(checkpoint_number=1))
    return found


def corruption(worker: Worker) -> Any:
    """The chief breaks the newest: both must take the one before."""
    with worker.manager("corrupt") as manager:
        for number in (1, 2):
            worker.train()
            manager.save(checkpoint_number=number)
        if worker.index == 0:
            shard = worker.folder / "corrupt" / "ckpt-2.data-00001-of-00002"
            data = bytearray(shard.read_bytes())
            data[len(data) // 2] ^= 1
            shard.write_bytes(data)
        worker.meet()
        before = int(worker.step.numpy())
        path = manager.restore_or_initialize()
        return {"path": Path(path).name, "steps_back": before - int(worker.step.numpy())}


def differing(worker: Worker) -> Any:
    """Worker 1 gives its own component of a mirrored variable another value, which no checkpoint may hold unnoticed."""
    told: list[str] = []
    listener = logging.Handler()
    listener.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign] # one use of it
    component = worker.kernels[1].values[0]
    before = component.numpy()
    found: dict[str, Any] = {}
    for mode in ("refuse", "warn"):
        with worker.manager(mode, keep=20, options=distckpt.Options(cross_check=mode)) as manager:
            manager.save(checkpoint_number=1)
            component.assign(before + worker.index)
            logging.getLogger("distckpt.coordinator").addHandler(listener)
            for number in range(2, 10):
                error = error_of(lambda number=number: manager.save(checkpoint_number=number))
                found.setdefault(mode, []).append(error)
            logging.getLogger("distckpt.coordinator").removeHandler(listener)
            component.assign(before)
            found[f"{mode}: checkpoints"] = len(manager.checkpoints)
        worker.meet()
    return found | {"told": [text for text in told if "save of step" in text and "aborted" not in text]}


def turns(worker: Worker) -> Any:
    """Two managers on one directory, used in turn; what retention would remove is preserved."""
    first, second = (worker.manager("turns", keep=1, keep_checkpoint_every_n_hours=1e-9) for _ in range(2))
    listed = []
    for number, manager in enumerate((first, second, second, first), 1):
        worker.train()
        manager.save(checkpoint_number=number)
        listed.append([Path(path).name for path in manager.checkpoints])
    before = int(worker.step.numpy())
    first.restore(2)  # preserved by the second
    found = {"listed": listed, "steps_back": before - int(worker.step.numpy())}
    for manager in (first, second):
        manager.close()
    return found


def cooperative(worker: Worker) -> Any:
    """Each reads its part of the bytes, and has all bits of all dtypes afterwards."""
    nan_bits = np.array([0x7FC00001, 0xFF800001, 0x80000000], np.uint32)
    values = [nan_bits.view("f"), np.array([True, False]), np.arange(5, dtype=np.float16), np.array([-1, 1 << 62])]
    values.append(np.random.default_rng(7).normal(size=(3, 700_001)).astype("f"))  # more than is exchanged at once
    with worker.strategy.scope():
        held = [tf.Variable(value) for value in values]
    held += [tf.Variable("text"), tf.Variable(tf.cast([1.5, -0.0], tf.bfloat16))]
    mirrored = [*held[:5], held[6]]
    with worker.manager("cooperative", tf.train.Checkpoint(held=held)) as manager:
        manager.save(checkpoint_number=1)
        before = [np.asarray(variable).tobytes() for variable in mirrored]
        for variable in held:
            variable.assign(tf.zeros_like(variable))
        read, read_into = [], PosixStorage.read_into

        def counted(storage: PosixStorage, key: str, offset: int, into: Any) -> int:
            read.append(read_into(storage, key, offset, into))
            return read[-1]

        with mock.patch.object(PosixStorage, "read_into", counted), mock.patch.object(exchange, "ROUND_BYTES", 1 << 20):
            restored = manager.restore_or_initialize(cooperative=True)
        after = [np.asarray(variable).tobytes() for variable in mirrored]
        text = held[5].numpy().decode()
    return {"path": Path(restored).name, "alike": after == before, "text": text, "read": sum(read)}


def temporary(worker: Worker) -> Any:
    """TensorFlow's recipe: the chief's manager is on the directory, the other's on a temporary one."""
    own = worker.folder / "recipe" / ("workertemp_1" if worker.index else "") / "ckpt"
    found: dict[str, Any] = {}
    with worker.manager(str(own.relative_to(worker.folder)), keep=2) as manager:
        for number in (1, 2):
            worker.train()
            found["path"] = str(Path(manager.save(checkpoint_number=number)).relative_to(worker.folder))
            found["in its own"] = sorted(path.name for path in own.iterdir()) if worker.index else []
            if worker.index:
                own.rmdir()
        found["directory"] = manager.directory == str(own)
        before = int(worker.step.numpy())
        manager.restore(1)
        found["steps_back"] = before - int(worker.step.numpy())
    return found


def side_by_side(worker: Worker) -> Any:
    """Two managers of two objects, each with its directory and its names, both with a save in flight."""
    model = worker.manager("model", async_save=True)
    table = worker.manager("table", tf.train.Checkpoint(table=worker.embedding), async_save=True, checkpoint_name="t")
    for number in (1, 2, 3):
        worker.train()
        model.save(checkpoint_number=number)
        if number > 1:
            table.save(checkpoint_number=number)
    newest = float(worker.embedding[0, 0])
    table.restore(2)
    found = {"table_back": newest - float(worker.embedding[0, 0])}
    model.restore(1)
    found["model_back"] = newest - float(worker.embedding[0, 0])
    part = tf.Variable(tf.zeros([2000, 32]))
    model.restore("latest", into=tf.train.Checkpoint(embedding=part)).expect_partial()
    found["part"] = newest - float(part[0, 0])
    for manager in (model, table):
        manager.close()
    return found


def preempted(worker: Worker) -> Any:
    """TensorFlow's PreemptionCheckpointHandler over our managers: worker 1 gets SIGTERM, both save and end; again."""

    class Left(Exception):
        pass

    def leave() -> None:
        raise Left

    checkpoint = tf.train.Checkpoint(step=worker.step)
    config = tf.distribute.experimental.TerminationConfig(exit_fn=leave)
    theirs = "tensorflow.python.checkpoint.checkpoint_management.CheckpointManager"
    with mock.patch(theirs, distckpt.CheckpointManager), worker.strategy.scope():
        handler = tf.distribute.experimental.PreemptionCheckpointHandler(
            worker.strategy.cluster_resolver, checkpoint, str(worker.folder / "preempted" / "ckpt"), config
        )
    reader, writer = handler._read_checkpoint_manager, handler._write_checkpoint_manager
    start = int(worker.step.numpy())
    with suppress(Left):
        for number in range(1000):
            handler.run(worker.train)
            worker.meet()
            if number == 3 and worker.index == 1:
                os.kill(os.getpid(), signal.SIGTERM)
    runs, saved = handler.total_run_calls, int(worker.step.numpy())
    worker.train()
    latest = reader.restore_or_initialize()
    found = {
        "trained": saved - start == int(runs),
        "restored": int(worker.step.numpy()) == saved,
        "one": reader.checkpoints == writer.checkpoints == [latest],
        "path": str(Path(latest).relative_to(worker.folder)),
    }
    reader.close()
    found["closed"] = error_of(writer.save)[0]
    return found


def main() -> None:
    worker = Worker(tf.distribute.MultiWorkerMirroredStrategy(), Path(sys.argv[1]))
    stories = (
        saves_and_restores,
        saves_behind_the_step,
        refusals,
        corruption,
        differing,
        turns,
        cooperative,
        temporary,
        side_by_side,
        preempted,
    )
    sys.stdout.write(json.dumps({story.__name__: story(worker) for story in stories}) + "\n")


if __name__ == "__main__":
    main()
