"""What is written in shares and slices is restored by TensorFlow's own restore, also into what is made later."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from distckpt.errors import CorruptCheckpoint, ObjectMissing
from distckpt.model import Extent, Piece
from distckpt.tensors.cluster import ALONE
from distckpt.tensors.restore import restore
from distckpt.tensors.snapshot import Snapshot
from distckpt.tensors.source import Source


def saved(checkpoint: Any, folder: Path, comparing: ModuleType) -> str:
    """Captures and writes, every tensor that may be cut in two slices."""
    checkpoint.save_counter.assign_add(1)
    snapshot = Source(checkpoint, ALONE).capture()
    return str(comparing.write_bundle(snapshot.payloads(halves(snapshot), own=True), folder, "ckpt-1"))


def halves(snapshot: Snapshot) -> list[Piece]:
    pieces = []
    for spec in snapshot.layout.replicated:
        if spec.divisible:
            rows = spec.shape[0]
            cut, row_bytes = rows // 2, spec.size_bytes // rows
            extents = Extent(0, cut), Extent(cut, rows - cut)
            pieces += [Piece(spec.name, row_bytes * extent.length, extent) for extent in extents]
        else:
            pieces.append(Piece(spec.name, spec.size_bytes))
    return pieces


def weights_of(checkpoint: Any, comparing: ModuleType) -> dict[str, bytes]:
    payloads = comparing.all_payloads(Source(checkpoint, ALONE).capture())
    return {payload.name: payload.data.tobytes() for payload in payloads if payload.name != comparing.GRAPH}


def keras_checkpoint() -> Any:
    model = keras.Sequential([keras.layers.Dense(8), keras.layers.BatchNormalization(), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return tf.train.Checkpoint(model=model, optimizer=model.optimizer)


def tf_keras_checkpoint() -> Any:
    layers = [tf_keras.layers.Dense(8), tf_keras.layers.BatchNormalization(), tf_keras.layers.Dense(1)]
    model = tf_keras.Sequential(layers)
    model.compile("adam", "mse")
    return tf.train.Checkpoint(model=model, optimizer=model.optimizer)


def fit(checkpoint: Any) -> None:
    checkpoint.model.fit(np.ones([8, 4], np.float32), np.ones([8, 1], np.float32), verbose=0)


@pytest.mark.parametrize("make", [keras_checkpoint, tf_keras_checkpoint])
def test_a_trained_model_is_restored_bit_for_bit(make: Any, comparing: ModuleType, tmp_path: Path) -> None:
    checkpoint = make()
    fit(checkpoint)
    path = saved(checkpoint, tmp_path, comparing)
    expected = weights_of(checkpoint, comparing)
    fit(checkpoint)
    assert weights_of(checkpoint, comparing) != expected
    restore(checkpoint, path).assert_consumed()
    assert weights_of(checkpoint, comparing) == expected


@pytest.mark.parametrize("make", [keras_checkpoint, tf_keras_checkpoint])
def test_variables_made_after_the_restore_get_their_values(make: Any, comparing: ModuleType, tmp_path: Path) -> None:
    trained = make()
    fit(trained)
    path = saved(trained, tmp_path, comparing)
    kernel = trained.model.layers[0].kernel.numpy()
    later = make()
    status = restore(later, path)
    later.model(tf.ones([2, 4]))
    assert (later.model.layers[0].kernel.numpy() == kernel).all()
    status.expect_partial()


def test_slots_made_after_the_restore_get_their_values(comparing: ModuleType, tmp_path: Path) -> None:
    def make() -> Any:
        optimizer = tf_keras.optimizers.legacy.SGD(0.0, momentum=0.9)
        return tf.train.Checkpoint(variable=tf.Variable([1.0, 2.0]), optimizer=optimizer)

    first, second = make(), make()
    first.optimizer.apply_gradients([(tf.constant([3.0, 4.0]), first.variable)])
    path = saved(first, tmp_path, comparing)
    momentum = first.optimizer.get_slot(first.variable, "momentum").numpy()
    restore(second, path)
    second.optimizer._create_all_weights([second.variable])
    assert (second.optimizer.get_slot(second.variable, "momentum").numpy() == momentum).all()


def test_tables_iterators_and_strings_are_restored(comparing: ModuleType, tmp_path: Path) -> None:
    table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)
    table.insert(tf.constant(["a", "b"]), tf.constant([1, 2], tf.int64))
    iterator = iter(tf.data.Dataset.range(10).shuffle(10, seed=3))
    words = tf.Variable(["x", "ünï", ""])
    checkpoint = tf.train.Checkpoint(table=table, iterator=iterator, words=words)
    next(iterator)
    path = saved(checkpoint, tmp_path, comparing)
    rest = [int(next(iterator)) for _ in range(9)]
    table.insert(tf.constant(["a"]), tf.constant([9], tf.int64))
    words.assign(["", "", ""])
    restore(checkpoint, path).assert_consumed()
    assert [int(next(iterator)) for _ in range(9)] == rest
    assert table.lookup(tf.constant(["a", "b", "c"])).numpy().tolist() == [1, 2, -1]
    assert words.numpy().tolist() == [b"x", "ünï".encode(), b""]


def test_a_flipped_bit_a_short_file_and_a_missing_one_are_named(comparing: ModuleType, tmp_path: Path) -> None:
    checkpoint = tf.train.Checkpoint(weights=tf.Variable(tf.ones([64, 64])))
    path = saved(checkpoint, tmp_path, comparing)
    shard = tmp_path / "ckpt-1.data-00000-of-00001"
    content = shard.read_bytes()
    for place in (100, len(content) - 9):  # in the weights, in the object graph
        shard.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(CorruptCheckpoint, match="ckpt-1"):
            restore(checkpoint, path)
    shard.write_bytes(content[:200])
    with pytest.raises(CorruptCheckpoint, match="ckpt-1"):
        restore(checkpoint, path)
    shard.unlink()
    with pytest.raises(ObjectMissing, match="ckpt-1"):
        restore(checkpoint, path)
    with pytest.raises(ObjectMissing, match="ckpt-2"):
        restore(checkpoint, str(tmp_path / "ckpt-2"))
