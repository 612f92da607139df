"""Captures under MultiWorkerMirroredStrategy; run in each of the workers by test_capture_strategies.py.

Usage: workers_capture.py FOLDER, with TF_CONFIG set. Each worker writes half of the replicated tensors, the chief puts
the index together and compares. Prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import comparing
import mirrored_capture as contents
import tensorflow as tf
import tf_keras

from distckpt.bundle.index import encode_index
from distckpt.bundle.loader import Loader
from distckpt.bundle.names import data_file, index_file
from distckpt.bundle.writer import write_share
from distckpt.model import Piece, Place
from distckpt.storage.posix import PosixStorage
from distckpt.tensors.cluster import ClusterBoard, cluster_place
from distckpt.tensors.restore import restore
from distckpt.tensors.snapshot import Snapshot
from distckpt.tensors.source import Source


def compiled_steps(strategy: Any) -> contents.Content:
    with strategy.scope():
        dense = tf.Variable(tf.ones([256, 256]), aggregation=tf.VariableAggregation.MEAN)
        statistics = tf.Variable(
            tf.zeros([4]),
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.MEAN,
        )

    @tf.function(jit_compile=True)
    def compiled() -> None:
        for variable in (dense, statistics):
            local = tf.distribute.get_strategy().experimental_local_results(variable)[0]
            local.assign(local * 0.5 + 0.25)

    return tf.train.Checkpoint(dense=dense, statistics=statistics), lambda: strategy.run(compiled)


def custom_loop(strategy: Any) -> contents.Content:
    with strategy.scope():
        model = tf_keras.Sequential([tf_keras.layers.Dense(8), tf_keras.layers.BatchNormalization()])
        model.build((None, 4))
        optimizer = tf_keras.optimizers.Adam()
        optimizer.build(model.trainable_variables)
    worker = cluster_place(strategy).worker

    def on_replica() -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model(tf.random.stateless_normal([6, 4], [worker, 1]), training=True) ** 2)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

    step = tf.function(lambda: strategy.run(on_replica))
    step()
    counter = tf.Variable(worker)  # made outside of the scope: every worker has another
    checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer, counter=counter)
    checkpoint.save_counter.assign_add(1)
    return checkpoint, step


CHECKS = {
    "tf_keras": contents.tf_keras_model,
    "custom loop": custom_loop,
    "compiled": compiled_steps,
    "aggregating": contents.aggregating_variables,
    "sparse": contents.sparse_table,
    "outside of the scope": contents.outside_of_the_scope,
}


def wait_for_all(strategy: Any) -> None:
    strategy.reduce("SUM", strategy.run(lambda: tf.constant(1.0)), axis=None)


def write_part(snapshot: Snapshot, place: Place, folder: Path) -> None:
    mine = snapshot.layout.replicated[place.worker :: place.world_size]
    payloads = snapshot.payloads([Piece(spec.name, spec.size_bytes) for spec in mine], own=True)
    storage = PosixStorage.create(folder)
    file = storage.stage(1, f"worker-{place.worker}")
    entries, _ = write_share(payloads, file, threads=1)
    storage.publish(file.seal(), data_file("ours", place.worker, place.world_size))
    (folder / f"entries-{place.worker}").write_bytes(pickle.dumps(entries))


def problems_of(strategy: Any, content: Any, folder: Path) -> tuple[list[str], tuple[str, bool]]:
    """The problems found, and what the workers must agree on."""
    place = cluster_place(strategy)
    checkpoint, step = content(strategy)
    source = Source(checkpoint, place)
    source.capture()
    step()
    if place.is_chief:  # only here is the graph walked again, which must wait for nobody
        checkpoint.only_on_the_chief = tf.Variable([1.0, 2.0])
    snapshot = source.capture()
    theirs = checkpoint.write(str(folder / f"theirs-{place.worker}"))
    step()
    write_part(snapshot, place, folder)
    wait_for_all(strategy)
    agreed = (snapshot.layout.digest, snapshot.layout.needs_collectives)
    if not place.is_chief:
        found = [] if snapshot.own == () else ["a worker that is not the chief has something of its own to write"]
        return found, agreed
    parts = [pickle.loads((folder / f"entries-{worker}").read_bytes()) for worker in range(place.world_size)]
    PosixStorage(folder).put(index_file("ours"), encode_index(parts))
    return comparing.differences(str(folder / "ours"), theirs), agreed


def restored_alike(strategy: Any, folder: Path) -> list[str]:
    """What was written together is restored on all workers, and captured again is what was written."""
    checkpoint, _ = CHECKS["custom loop"](strategy)
    checkpoint.only_on_the_chief = tf.Variable([0.0, 0.0])
    written = folder / "custom loop"
    restore(checkpoint, str(written / "ours"), Loader(PosixStorage(written), "ours", threads=2)).assert_consumed()
    theirs = checkpoint.write(str(folder / f"restored-{cluster_place(strategy).worker}"))
    found = comparing.differences(str(written / "ours"), theirs)
    return [problem for problem in found if problem != comparing.OTHER_GRAPHS]  # they hold the names of this model


def board_problems(place: Place) -> list[str]:
    """Whether the workers' first boards are one, and a board that nobody writes to raises in time."""
    shared, empty = ClusterBoard(), ClusterBoard()
    if place.is_chief:
        shared.publish("a text")
    found = [] if shared.lookup(30.0) == "a text" else ["the board shows another text"]
    try:
        empty.lookup(0.2)
    except TimeoutError:
        return found
    return [*found, "a text that nobody published was found"]


def main() -> None:
    folder = Path(sys.argv[1])
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    place = cluster_place(strategy)
    problems = {"board": board_problems(place)}
    layouts = {}
    for name, content in CHECKS.items():
        problems[name], layouts[name] = problems_of(strategy, content, folder / name)
    problems["restored"] = restored_alike(strategy, folder)
    wait_for_all(strategy)
    found = {"problems": problems, "layouts": layouts, "place": [place.worker, place.world_size, list(place.addresses)]}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
