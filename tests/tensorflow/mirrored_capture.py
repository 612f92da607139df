"""Captures under MirroredStrategy and CentralStorageStrategy on logical CPU devices, in a process of its own.

Run by test_capture_strategies.py.

Usage: mirrored_capture.py DEVICES. Prints one line of JSON: the problems found, by check.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import comparing
import keras
import numpy as np
import tensorflow as tf
import tf_keras

from distckpt.bundle.loader import Loader
from distckpt.errors import UnsupportedState
from distckpt.storage.posix import PosixStorage
from distckpt.tensors import internals
from distckpt.tensors.cluster import cluster_place
from distckpt.tensors.restore import restore
from distckpt.tensors.source import Source

AGGREGATIONS = ("SUM", "MEAN", "ONLY_FIRST_REPLICA")
Content = tuple[Any, Callable[[], Any]]


def keras_model(strategy: Any) -> Content:
    with strategy.scope():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.BatchNormalization()])
        model.compile("adam", "mse", metrics=["mae"])
    data = np.random.default_rng(1).normal(size=(12, 4)).astype("f"), np.ones([12, 8], "f")
    model.fit(*data, verbose=0)
    return tf.train.Checkpoint(model=model, optimizer=model.optimizer), lambda: model.fit(*data, verbose=0)


def tf_keras_model(strategy: Any) -> Content:
    with strategy.scope():
        layers = [tf_keras.layers.Dense(8), tf_keras.layers.BatchNormalization(), tf_keras.layers.Dense(1)]
        model = tf_keras.Sequential(layers)
        model.compile(tf_keras.optimizers.Adam(), "mse", metrics=["mae"])
    data = np.random.default_rng(1).normal(size=(12, 4)).astype("f"), np.ones([12, 1], "f")
    model.fit(*data, verbose=0)
    return tf.train.Checkpoint(model=model, optimizer=model.optimizer), lambda: model.fit(*data, verbose=0)


def aggregating_variables(strategy: Any) -> Content:
    held = {}
    with strategy.scope():
        for aggregation, dtype in [("SUM", tf.int64), *((name, tf.float32) for name in AGGREGATIONS)]:
            held[f"{aggregation}_{dtype.name}".lower()] = tf.Variable(
                tf.cast(tf.range(64), dtype),
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation[aggregation],
            )

    def on_replica() -> None:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        for variable in held.values():
            noise = tf.random.stateless_normal([64], [replica, 7]) * 100.0
            variable.assign_add(tf.cast(noise, variable.dtype))

    step = tf.function(lambda: strategy.run(on_replica))
    step()
    return tf.train.Checkpoint(**held), step


def tf_keras_mixed_precision(strategy: Any) -> Content:
    tf_keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        return tf_keras_model(strategy)
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")


def keras_variables(strategy: Any) -> Content:
    """Keras 3's own variables, which wrap those of the strategy."""
    with strategy.scope():
        ones = np.ones([8], "f")
        options = {"synchronization": "on_read", "aggregation": "mean"}
        held = [keras.Variable(ones, trainable=False, **options), keras.Variable(ones)]
    module = tf.Module()
    module.held = held
    step = tf.function(lambda: strategy.run(lambda: held[0].assign(held[0] * 1.5)))
    return tf.train.Checkpoint(module=module), lambda: (step(), held[1].assign(ones * 3.0))


def sparse_table(strategy: Any) -> Content:
    with strategy.scope():
        table = tf.Variable(tf.ones([2048, 32]), aggregation=tf.VariableAggregation.MEAN)
        optimizer = tf_keras.optimizers.legacy.Adam()

    def on_replica() -> None:
        gradient = tf.IndexedSlices(tf.ones([2, 32]), tf.constant([1, 9]), tf.constant([2048, 32]))
        optimizer.apply_gradients([(gradient, table)])

    step = tf.function(lambda: strategy.run(on_replica))
    step()
    return tf.train.Checkpoint(table=table, optimizer=optimizer), step


def outside_of_the_scope(strategy: Any) -> Content:
    with strategy.scope():
        inside = tf.Variable([1.0, 2.0])
    outside = tf.Variable([3.0])
    return tf.train.Checkpoint(inside=inside, outside=outside), lambda: (
        inside.assign([5.0, 6.0]),
        outside.assign([7.0]),
    )


CHECKS = {
    "Keras 3": keras_model,
    "tf_keras": tf_keras_model,
    "tf_keras mixed precision": tf_keras_mixed_precision,
    "Keras 3 variables": keras_variables,
    "aggregating": aggregating_variables,
    "sparse": sparse_table,
    "outside of the scope": outside_of_the_scope,
}


def problems_of(strategy: Any, content: Callable[[Any], Content]) -> list[str]:
    checkpoint, step = content(strategy)
    source = Source(checkpoint, cluster_place(strategy))
    found = comparing.compare(checkpoint, source.capture())
    snapshot = source.capture()
    payloads = comparing.all_payloads(snapshot)
    before = [payload.data.tobytes() for payload in payloads]
    step()
    if [payload.data.tobytes() for payload in comparing.all_payloads(snapshot)] != before:
        found.append("the snapshot changed with the step")
    if [payload.data.tobytes() for payload in payloads] != before:
        found.append("the payloads changed with the step")
    found += restoring_problems(checkpoint, payloads, step)
    return found + comparing.compare(checkpoint, source.capture())


def restoring_problems(checkpoint: Any, payloads: list[Any], step: Callable[[], Any]) -> list[str]:
    """Every replica gets what TensorFlow's own restore gives it, and a step changes nothing but itself."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(comparing.write_bundle(payloads, Path(folder), "c"))
        step()
        checkpoint.restore(path).expect_partial()
        theirs = replicas(checkpoint)
        step()
        restore(checkpoint, path, Loader(PosixStorage(folder), "c", threads=2)).expect_partial()
        ours = replicas(checkpoint)
    return [] if ours == theirs else ["a replica is restored to another value than by TensorFlow"]


def replicas(checkpoint: Any) -> list[bytes]:
    variables = [internals.variable_behind(each) for each in internals.objects(checkpoint)]
    parts = [getattr(variable, "values", (variable,)) for variable in variables if variable is not None]
    return [part.numpy().tobytes() for each in parts for part in each]


def tracing_problems(strategy: Any) -> list[str]:
    """Tracing numbers the collectives: it must not depend on what only one worker tracks."""
    checkpoint, _ = aggregating_variables(strategy)
    source = Source(checkpoint, cluster_place(strategy))
    source.capture()
    traced = source._aggregation._function
    checkpoint.own = tf.Variable(1.0)
    source.capture()
    return [] if source._aggregation._function is traced else ["traced again for a variable that does not aggregate"]


def walking_problems(strategy: Any) -> list[str]:
    """A worker may walk alone: neither the walk nor the layout may aggregate anything."""
    found = []
    for content in (tf_keras_model, keras_model, aggregating_variables):
        checkpoint, _ = content(strategy)
        with mock.patch.object(type(strategy), "reduce", side_effect=AssertionError("a walk aggregates")) as reduce:
            layout = Source(checkpoint, cluster_place(strategy)).layout()
        if reduce.called or not layout.replicated:
            found.append(f"{content.__name__}: the walk aggregates")
    return found


def sharing_problems(strategy: Any) -> list[str]:
    """Replicas share the reading of what gradients update: shown by values that differ, as theirs never do."""
    replicas = strategy.num_replicas_in_sync
    with strategy.scope():
        trained = [tf.Variable([0.0]) for _ in range(2 * replicas + 1)]
        others = [tf.Variable([0.0], trainable=False) for _ in range(replicas)]
    for variable in (*trained, *others):
        for number, component in enumerate(strategy.experimental_local_results(variable)):
            component.assign([float(number)])
    source = Source(tf.train.Checkpoint(trained=trained, others=others), cluster_place(strategy))
    payloads = comparing.all_payloads(source.capture())
    read = {payload.name: payload.data.view("f")[0] for payload in payloads if payload.data.size == 4}
    of_trained = [read[f"trained/{index}/.ATTRIBUTES/VARIABLE_VALUE"] for index in range(len(trained))]
    found = []
    if of_trained != [float(index % replicas) for index in range(len(trained))]:
        found.append(f"variables that are trained are read from replicas {of_trained}")
    if any(read[f"others/{index}/.ATTRIBUTES/VARIABLE_VALUE"] for index in range(len(others))):
        found.append("a variable that may differ between replicas is read from another one than the first")
    return found


def refusal_problems(strategy: Any) -> list[str]:
    with strategy.scope():
        on_read = tf.VariableSynchronization.ON_READ
        variable = tf.Variable(1.0, trainable=False, synchronization=on_read, aggregation=tf.VariableAggregation.NONE)
    try:
        Source(tf.train.Checkpoint(variable=variable), cluster_place(strategy)).capture()
    except UnsupportedState as error:
        return [] if str(error).startswith("variable/") else [f"the refusal does not name the variable: {error}"]
    return ["what has no aggregation was captured"]


def main() -> None:
    devices = int(sys.argv[1])
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
    strategy = tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(devices)])
    found = {name: problems_of(strategy, content) for name, content in CHECKS.items()}
    found["tracing"] = tracing_problems(strategy)
    found["walking"] = walking_problems(strategy)
    found["sharing"] = sharing_problems(strategy)
    found["refusal"] = refusal_problems(strategy)
    central = tf.distribute.experimental.CentralStorageStrategy(["CPU:0", "CPU:1"], parameter_device="CPU:0")
    for name in ("tf_keras", "outside of the scope"):
        found[f"central storage, {name}"] = problems_of(central, CHECKS[name])
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
