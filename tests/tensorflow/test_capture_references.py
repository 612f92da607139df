"""A snapshot shares TensorFlow's buffers, and whatever updates the variables afterwards leaves it as it was."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from distckpt.model import Extent, Piece
from distckpt.tensors.cluster import ALONE
from distckpt.tensors.host import host_bytes
from distckpt.tensors.items import Read
from distckpt.tensors.reading import Reads
from distckpt.tensors.source import Source

ROWS, COLUMNS = 1024, 64
"""Large enough that a variable in TensorFlow's copy-on-read mode is taken out of it."""


def table() -> Any:
    return tf.Variable(tf.reshape(tf.range(ROWS * COLUMNS, dtype=tf.float32), [ROWS, COLUMNS]))


def slices(rows: list[int]) -> Any:
    return tf.IndexedSlices(tf.ones([len(rows), COLUMNS]), tf.constant(rows), tf.constant([ROWS, COLUMNS]))


def dense_step(make: Callable[[], Any], **options: Any) -> Callable[[Any], Any]:
    def prepare(variable: Any) -> Callable[[], Any]:
        optimizer = make()
        optimizer.build([variable])
        step = tf.function(lambda: optimizer.apply_gradients([(tf.ones_like(variable), variable)]), **options)
        return lambda: (step(), step())

    return prepare


def sparse_step(make: Callable[[], Any]) -> Callable[[Any], Any]:
    def prepare(variable: Any) -> Callable[[], Any]:
        optimizer = make()
        if hasattr(optimizer, "build"):
            optimizer.build([variable])
        return lambda: [optimizer.apply_gradients([(slices([1, 5]), variable)]) for _ in range(2)]

    return prepare


def compiled_assign(variable: Any) -> Callable[[], Any]:
    step = tf.function(lambda: variable.assign(variable * 2.0 + 1.0), jit_compile=True)
    return lambda: (step(), step())


def gathered_then_scattered(variable: Any) -> Callable[[], Any]:
    tf.gather(variable, [1, 2])
    return lambda: (variable.scatter_add(slices([1])), tf.gather(variable, [1]), variable.scatter_sub(slices([2])))


UPDATES: dict[str, Callable[[Any], Callable[[], Any]]] = {
    "assign": lambda variable: lambda: variable.assign(tf.zeros_like(variable)),
    "assign_add": lambda variable: lambda: variable.assign_add(tf.ones_like(variable)),
    "assign_sub": lambda variable: lambda: variable.assign_sub(tf.ones_like(variable)),
    "assign to a slice": lambda variable: lambda: variable[3:5].assign(tf.zeros([2, COLUMNS])),
    "scatter_add": lambda variable: lambda: variable.scatter_add(slices([1, 2])),
    "scatter_update": lambda variable: lambda: variable.scatter_update(slices([1, 2])),
    "scatter_min": lambda variable: lambda: variable.scatter_min(slices([1, 2])),
    "scatter_nd_add": lambda variable: lambda: variable.scatter_nd_add([[1]], tf.ones([1, COLUMNS])),
    "batch_scatter_update": lambda variable: lambda: variable.batch_scatter_update(slices([0])),
    "a gather and scatters": gathered_then_scattered,
    "a compiled assign": compiled_assign,
    "a dense step of Keras 3": dense_step(keras.optimizers.Adam),
    "a dense step of tf_keras": dense_step(lambda: tf_keras.optimizers.Adam(jit_compile=False)),
    "a dense step of tf_keras, compiled": dense_step(tf_keras.optimizers.Adam, jit_compile=True),
    "a sparse step of Keras 3": sparse_step(keras.optimizers.Adagrad),
    "a sparse step of tf_keras": sparse_step(lambda: tf_keras.optimizers.Adagrad(jit_compile=False)),
    "a sparse step of an old optimizer": sparse_step(tf_keras.optimizers.legacy.Adam),
    "a sparse step of an old momentum": sparse_step(lambda: tf_keras.optimizers.legacy.SGD(momentum=0.9)),
    "a sparse step of an old Adagrad": sparse_step(tf_keras.optimizers.legacy.Adagrad),
    "a sparse step of an old FTRL": sparse_step(tf_keras.optimizers.legacy.Ftrl),
}


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("before", ["fresh", "scattered before"])
def test_an_update_leaves_the_snapshot_as_it_was(update: str, before: str, comparing: ModuleType) -> None:
    variable = table()
    if before != "fresh":  # TensorFlow has put it into copy-on-read mode
        variable.scatter_add(slices([7]))
    change = UPDATES[update](variable)
    source = Source(tf.train.Checkpoint(variable=variable), ALONE)
    snapshot = source.capture()
    expected = variable.numpy().tobytes()
    change()
    assert variable.numpy().tobytes() != expected, "the update must change something"
    payload = comparing.all_payloads(snapshot)[0]
    assert payload.data.tobytes() == expected
    change()
    assert payload.data.tobytes() == expected


def test_a_restore_leaves_the_snapshot_as_it_was(comparing: ModuleType, tmp_path: Any) -> None:
    variable = table()
    checkpoint = tf.train.Checkpoint(variable=variable)
    path = checkpoint.write(str(tmp_path / "zero"))
    variable.assign_add(tf.ones_like(variable))
    snapshot = Source(checkpoint, ALONE).capture()
    expected = variable.numpy().tobytes()
    checkpoint.read(path)
    assert comparing.all_payloads(snapshot)[0].data.tobytes() == expected


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16, tf.bool, tf.complex64])
def test_payloads_are_read_only_views_of_tensorflows_own_buffer(dtype: Any) -> None:
    variable = tf.Variable(tf.cast(tf.ones([ROWS, COLUMNS]), dtype))
    snapshot = Source(tf.train.Checkpoint(variable=variable), ALONE).capture()
    spec = snapshot.layout.replicated[0]
    (payload,) = snapshot.payloads([Piece(spec.name, spec.size_bytes)], own=False)
    assert np.shares_memory(payload.data, host_bytes(variable.read_value()))
    assert payload.data.nbytes == spec.size_bytes
    assert not payload.data.flags.writeable


@pytest.mark.parametrize("count", [1, 33])  # from 32 on TensorFlow is told of all together
def test_a_variable_in_copy_on_read_mode_is_not_copied_either(count: int) -> None:
    variables = [table() for _ in range(count)]
    for variable in variables:
        variable.scatter_add(slices([7]))
    snapshot = Source(tf.train.Checkpoint(variables=variables), ALONE).capture()
    for index, variable in enumerate(variables):
        piece = Piece(f"variables/{index}/.ATTRIBUTES/VARIABLE_VALUE", ROWS * COLUMNS * 4)
        (payload,) = snapshot.payloads([piece], own=False)
        now = host_bytes(tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=variable.dtype))
        assert np.shares_memory(payload.data, now)


def test_of_many_variables_one_that_is_gone_is_left_out() -> None:
    handles = [table().handle for _ in range(40)]
    handles[33] = tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[ROWS, COLUMNS], shared_name="nobody made it")
    values = Reads(Read(str(number), handle, tf.float32, None) for number, handle in enumerate(handles)).values()
    assert list(values) == [str(number) for number in range(40) if number != 33]


def test_rows_of_a_tensor_are_a_view_with_their_place() -> None:
    variable = table()
    snapshot = Source(tf.train.Checkpoint(variable=variable), ALONE).capture()
    name = snapshot.layout.replicated[0].name
    whole, rows = snapshot.payloads(
        [Piece(name, ROWS * COLUMNS * 4), Piece(name, 2 * COLUMNS * 4, Extent(3, 2))], own=False
    )
    assert rows.data.tobytes() == variable.numpy()[3:5].tobytes()
    assert rows.part == (Extent(3, 2), Extent(0, COLUMNS))
    assert rows.shape == (ROWS, COLUMNS)
    assert np.shares_memory(rows.data, whole.data)
    with pytest.raises(ValueError, match="1024"):
        snapshot.payloads([Piece(name, 8, Extent(1023, 2))], own=False)


def test_payloads_stay_valid_after_release_and_none_are_to_be_had_then() -> None:
    variable = table()
    snapshot = Source(tf.train.Checkpoint(variable=variable), ALONE).capture()
    piece = Piece(snapshot.layout.replicated[0].name, ROWS * COLUMNS * 4)
    expected = variable.numpy().tobytes()
    (payload,) = snapshot.payloads([piece], own=False)
    snapshot.release()
    snapshot.release()
    variable.assign_add(tf.ones_like(variable))
    assert payload.data.tobytes() == expected
    with pytest.raises(KeyError):
        snapshot.payloads([piece], own=False)
