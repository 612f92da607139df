"""Whatever a tf.train.Checkpoint can hold is captured as TensorFlow itself would write it, byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tensorflow.python.saved_model import registration

from distckpt.errors import ConfigurationError, UnsupportedState
from distckpt.tensors.cluster import ALONE
from distckpt.tensors.source import Source

Change = Callable[[], Any]
Held = tuple[dict[str, Any], Change]
"""What a checkpoint is made of, and how its values change without a change of what is tracked."""

NUMERIC = [
    *(tf.float16, tf.float32, tf.float64, tf.bfloat16, tf.complex64, tf.complex128, tf.bool),
    *(tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint16, tf.uint32, tf.uint64),
    *(tf.dtypes.experimental.float8_e4m3fn, tf.dtypes.experimental.float8_e5m2),
    *(tf.dtypes.experimental.int4, tf.dtypes.experimental.uint4, tf.qint8, tf.quint8, tf.qint32),
]
STEPPING_STONES = {
    tf.dtypes.experimental.int4: tf.int8,
    tf.dtypes.experimental.uint4: tf.int8,
    tf.qint8: tf.int8,
    tf.quint8: tf.uint8,
    tf.qint32: tf.int32,
}


def cast(numbers: list[list[float]], dtype: Any) -> Any:
    there = tf.cast(tf.constant(numbers), STEPPING_STONES.get(dtype, dtype))
    return tf.bitcast(there, dtype) if dtype.is_quantized else tf.cast(there, dtype)


def variables_of_all_dtypes() -> Held:
    held = {dtype.name: tf.Variable(cast([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]], dtype)) for dtype in NUMERIC}
    changed = [(variable, cast([[5.0, 1.0, 2.0], [0.0, 4.0, 7.0]], variable.dtype)) for variable in held.values()]
    held["scalar"] = tf.Variable(3.5)
    held["empty"] = tf.Variable(tf.zeros([0, 4]))
    held["one_row"] = tf.Variable(tf.ones([1, 4]))
    return held, lambda: [variable.assign(value) for variable, value in changed]


def string_variables() -> Held:
    words = tf.Variable([["a", ""], ["ünïcode", "long " * 100]])
    scalar = tf.Variable("one")
    return {"words": words, "scalar": scalar}, lambda: words.assign([["b", "c"], ["", "d"]])


def variable_without_a_fixed_shape() -> Held:
    growing = tf.Variable(tf.zeros([2, 3]), shape=tf.TensorShape([None, 3]))
    return {"growing": growing}, lambda: growing.assign(tf.ones([5, 3]))


def keras_model() -> Held:
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(8), keras.layers.BatchNormalization(), keras.layers.Dense(1)]
    )
    model.compile("adam", "mse", metrics=["mae"])
    data = np.ones([8, 4], np.float32), np.ones([8, 1], np.float32)
    model.fit(*data, verbose=0)
    return {"model": model, "optimizer": model.optimizer}, lambda: model.fit(*data, verbose=0)


def keras_mixed_precision() -> Held:
    layer = keras.layers.Dense(4, dtype="mixed_float16")
    layer.build((None, 4))
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(momentum=0.9, use_ema=True))
    optimizer.build(layer.trainable_variables)

    def change() -> None:
        optimizer.apply_gradients([(tf.ones_like(variable.value), variable) for variable in layer.trainable_variables])

    return {"layer": layer, "optimizer": optimizer}, change


def keras_text_layers() -> Held:
    lookup = keras.layers.StringLookup()
    lookup.adapt(tf.constant(["a", "b", "a"]))
    vectorize = keras.layers.TextVectorization()
    vectorize.adapt(tf.constant(["some words here", "more words"]))
    return {"lookup": lookup, "vectorize": vectorize}, lambda: None


def tf_keras_model(optimizer: Any) -> Held:
    model = tf_keras.Sequential(
        [tf_keras.layers.Dense(8), tf_keras.layers.BatchNormalization(), tf_keras.layers.Dense(1)]
    )
    model.compile(optimizer, "mse", metrics=["mae"])
    data = np.ones([8, 4], np.float32), np.ones([8, 1], np.float32)
    model.fit(*data, verbose=0)
    return {"model": model, "optimizer": model.optimizer}, lambda: model.fit(*data, verbose=0)


def tf_keras_mixed_precision() -> Held:
    tf_keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        return tf_keras_model(tf_keras.optimizers.Adam())
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")


def nested_structures() -> Held:
    module = tf.Module()
    module.layers = [tf.Variable(float(number)) for number in range(12)]
    module.named = {"a/b": tf.Variable(1.0), "c": (tf.Variable(2.0), [tf.Variable(3.0)])}
    inner = tf.train.Checkpoint(module, step=tf.Variable(0, dtype=tf.int64))
    return {"inner": inner, "again": module}, lambda: inner.step.assign_add(1)


def tables() -> Held:
    counts = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)
    counts.insert(tf.constant(["a", "b"]), tf.constant([1, 2], tf.int64))
    dense = tf.lookup.experimental.DenseHashTable(tf.int64, tf.float32, 0.0, empty_key=-1, deleted_key=-2)
    dense.insert(tf.constant([5], tf.int64), tf.constant([0.5]))
    initializer = tf.lookup.KeyValueTensorInitializer(["x"], tf.constant([1], tf.int64))
    static = tf.lookup.StaticHashTable(initializer, 0)
    return {"counts": counts, "dense": dense, "static": static}, lambda: dense.insert(
        tf.constant([6], tf.int64), [0.25]
    )


def iterator_and_generators() -> Held:
    iterator = iter(tf.data.Dataset.range(100).shuffle(10, seed=1).batch(3))
    next(iterator)
    generator = tf.random.Generator.from_seed(7)
    return {"iterator": iterator, "generator": generator}, lambda: (next(iterator), generator.normal([2]))


class Counter(tf.train.experimental.PythonState):
    def __init__(self) -> None:
        self.count = 0

    def serialize(self) -> str:
        return str(self.count)

    def deserialize(self, string_value: str) -> None:
        self.count = int(string_value)


def python_state() -> Held:
    counter = Counter()

    def change() -> None:
        counter.count += 1

    return {"counter": counter}, change


def moving_average() -> Held:
    variable = tf.Variable([1.0, 2.0])
    average = tf.train.ExponentialMovingAverage(0.9)
    average.apply([variable])
    return {"variable": variable, "average": average.average(variable)}, lambda: average.apply([variable])


def partitioned_variable() -> Held:
    strategy_free = tf.__internal__.distribute.ShardedVariable
    parts = [tf.Variable(tf.ones([rows, 3]) * rows, name=f"part_{rows}") for rows in (3, 2, 2)]
    return {"sharded": strategy_free(parts, name="table")}, lambda: parts[1].assign_add(tf.ones([2, 3]))


CONTENTS: dict[str, Callable[[], Held]] = {
    "variables of all dtypes": variables_of_all_dtypes,
    "string variables": string_variables,
    "a variable without a fixed shape": variable_without_a_fixed_shape,
    "a Keras 3 model": keras_model,
    "Keras 3 mixed precision, loss scale and EMA": keras_mixed_precision,
    "Keras 3 text layers": keras_text_layers,
    "a tf_keras model": lambda: tf_keras_model("adam"),
    "a tf_keras model with an old optimizer": lambda: tf_keras_model(tf_keras.optimizers.legacy.Adam()),
    "tf_keras mixed precision": tf_keras_mixed_precision,
    "nested structures": nested_structures,
    "tables": tables,
    "an iterator and a generator": iterator_and_generators,
    "Python state": python_state,
    "a moving average": moving_average,
    "a partitioned variable": partitioned_variable,
}


@pytest.mark.parametrize("content", CONTENTS)
def test_captures_what_tensorflow_writes_and_again_after_the_values_changed(
    content: str, comparing: ModuleType
) -> None:
    held, change = CONTENTS[content]()
    checkpoint = tf.train.Checkpoint(**held)
    source = Source(checkpoint, ALONE)
    assert comparing.compare(checkpoint, source.capture()) == []
    change()
    assert comparing.compare(checkpoint, source.capture()) == []


def test_a_variable_that_has_no_value_yet_is_in_the_graph_alone(comparing: ModuleType) -> None:
    later = tf.Variable([1.0])
    checkpoint = tf.train.Checkpoint(now=tf.Variable(2.0), later=later)
    source = Source(checkpoint, ALONE)
    source.capture()
    tf.raw_ops.DestroyResourceOp(resource=later.handle)
    assert comparing.compare(checkpoint, source.capture()) == []
    later.assign([5.0])
    assert comparing.compare(checkpoint, source.capture()) == []


def test_what_a_registered_saver_writes_is_taken_over(comparing: ModuleType) -> None:
    checkpoint = tf.train.Checkpoint(stack=_Stack([1.0, 2.0]), step=tf.Variable(1))
    source = Source(checkpoint, ALONE)
    assert comparing.compare(checkpoint, source.capture()) == []
    checkpoint.stack.parts[0].assign(9.0)
    assert comparing.compare(checkpoint, source.capture()) == []


class _Stack(tf.Module):
    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.parts = [tf.Variable(value) for value in values]


def _save_stack(trackables: dict[str, Any], file_prefix: Any) -> list[Any]:
    names = [f"{name}/values" for name in trackables]
    values = [tf.stack([tf.convert_to_tensor(part) for part in stack.parts]) for stack in trackables.values()]
    tf.raw_ops.SaveV2(prefix=file_prefix, tensor_names=names, shape_and_slices=[""] * len(names), tensors=values)
    return [file_prefix]


registration.register_checkpoint_saver(
    package="distckpt_tests",
    name="Stack",
    predicate=lambda it: isinstance(it, _Stack),
    save_fn=_save_stack,
    restore_fn=lambda **_: None,
)


class _Stray(tf.Module):
    pass


def _save_stray(trackables: dict[str, Any], file_prefix: Any) -> list[Any]:
    tf.io.write_file(tf.strings.join([file_prefix, ".extra"]), "beside")
    return []


registration.register_checkpoint_saver(
    package="distckpt_tests",
    name="Stray",
    predicate=lambda it: isinstance(it, _Stray),
    save_fn=_save_stray,
    restore_fn=lambda **_: None,
)


def test_a_saver_that_writes_files_of_its_own_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedState, match=r"distckpt_tests\.Stray.* writes .*\.extra"):
        Source(tf.train.Checkpoint(stray=_Stray()), ALONE).capture()


def test_an_iterator_that_cannot_be_saved_is_refused_with_tensorflows_own_error() -> None:
    iterator = iter(tf.data.Dataset.from_generator(lambda: iter([1]), output_signature=tf.TensorSpec([], tf.int32)))
    with pytest.raises(tf.errors.FailedPreconditionError, match="is stateful"):
        Source(tf.train.Checkpoint(iterator=iterator), ALONE).capture()


def test_one_that_can_no_longer_be_saved_is_refused_by_its_name() -> None:
    class Parts(tf.Module):
        def _serialize_to_tensors(self) -> dict[str, Any]:
            if broken:
                raise tf.errors.FailedPreconditionError(None, None, "not now")
            return {"part": tf.constant(1.0)}

    broken = False
    source = Source(tf.train.Checkpoint(parts=Parts()), ALONE)
    source.capture()
    broken = True
    with pytest.raises(tf.errors.FailedPreconditionError) as raised:
        source.capture()
    assert "parts/.ATTRIBUTES/part" in str(raised.value.__notes__)


def test_a_capture_inside_a_function_is_refused() -> None:
    source = Source(tf.train.Checkpoint(step=tf.Variable(1)), ALONE)
    source.capture()
    with pytest.raises(ConfigurationError, match=r"tf\.function"):
        tf.function(lambda: source.capture() and None, autograph=False)()


def test_one_worker_has_all_fixed_width_tensors_to_share_and_the_graph_for_itself() -> None:
    source = Source(tf.train.Checkpoint(a=tf.Variable(tf.zeros([4, 2])), words=tf.Variable("x")), ALONE)
    snapshot = source.capture()
    assert [(spec.name.split("/")[0], spec.shape, spec.size_bytes) for spec in snapshot.layout.replicated] == [
        ("a", (4, 2), 32)
    ]
    assert [spec.name.split("/")[0] for spec in snapshot.own] == ["words", "_CHECKPOINTABLE_OBJECT_GRAPH"]
    assert source.layout() == snapshot.layout
    assert not snapshot.layout.needs_collectives
