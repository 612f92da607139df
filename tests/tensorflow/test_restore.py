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

from distckpt.bundle.loader import Loader
from distckpt.errors import CorruptCheckpoint, ObjectMissing
from distckpt.model import Extent, Piece
from distckpt.storage.posix import PosixStorage
from distckpt.tensors import internals
from distckpt.tensors import restore as restoring
from distckpt.tensors.cluster import ALONE
from distckpt.tensors.snapshot import Snapshot
from distckpt.tensors.source import Source


def saved(checkpoint: Any, folder: Path, comparing: ModuleType) -> str:
    """Captures and writes, every tensor that may be cut in two slices."""
    checkpoint.save_counter.assign_add(1)
    snapshot = Source(checkpoint, ALONE).capture()
    return str(comparing.write_bundle(snapshot.payloads(halves(snapshot), own=True), folder, "ckpt-1"))


def restore(checkpoint: Any, path: str) -> Any:
    """Restores without a verification before it: each byte is read, and its checksum compared, on the way."""
    return restoring.restore(checkpoint, path, loader_of(path))


def loader_of(path: str) -> Loader:
    return Loader(PosixStorage(Path(path).parent), Path(path).name, threads=2)


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


def test_what_was_verified_is_not_read_again(comparing: ModuleType, tmp_path: Path) -> None:
    values = tf.random.normal([64, 1024])
    checkpoint = tf.train.Checkpoint(weights=tf.Variable(values), bias=tf.Variable(tf.ones([4])))
    path = saved(checkpoint, tmp_path, comparing)
    loader = loader_of(path)
    assert loader.verify(0, 1) == []
    shard = tmp_path / "ckpt-1.data-00000-of-00001"
    content = shard.read_bytes()
    weights_end = content.index(values.numpy()[32:].tobytes()) + 32 * 1024 * 4
    shard.write_bytes(b"?" * weights_end + content[weights_end:])  # the object graph, at the end, TensorFlow reads
    checkpoint.weights.assign(tf.zeros_like(values))
    checkpoint.bias.assign(tf.zeros([4]))
    restoring.restore(checkpoint, path, loader).assert_consumed()
    assert (checkpoint.weights.numpy() == values.numpy()).all()
    assert checkpoint.bias.numpy().tolist() == [1.0] * 4


def test_restored_variables_are_independent_of_each_other_and_of_what_was_read(
    comparing: ModuleType, tmp_path: Path
) -> None:
    """A large tensor takes over the memory that it was read into: the next restore must not see what training wrote."""
    checkpoint = tf.train.Checkpoint(a=tf.Variable(tf.ones([64, 1024])), b=tf.Variable(tf.fill([64, 1024], 2.0)))
    path = saved(checkpoint, tmp_path, comparing)
    loader = loader_of(path)
    for _ in range(3):
        restoring.restore(checkpoint, path, loader)
        assert (set(checkpoint.a.numpy().flat), set(checkpoint.b.numpy().flat)) == ({1.0}, {2.0})
        checkpoint.a.assign_add(tf.ones([64, 1024]))
        tf.raw_ops.ResourceScatterAdd(resource=checkpoint.b.handle, indices=[0], updates=tf.ones([1, 1024]))


def test_many_small_variables_are_independent_of_each_other(comparing: ModuleType, tmp_path: Path) -> None:
    """They are made together: what is written to one must not reach its neighbours."""
    variables = [tf.Variable(tf.fill([16], float(number))) for number in range(600)]
    checkpoint = tf.train.Checkpoint(variables=variables)
    path = saved(checkpoint, tmp_path, comparing)
    for _ in range(2):
        restore(checkpoint, path)
        for variable in variables[::2]:
            variable.assign_add(tf.ones([16]))
        tf.raw_ops.ResourceScatterAdd(resource=variables[1].handle, indices=[0], updates=[1.0])
        found = [variable.numpy() for variable in variables]
        assert all((value == number + 1).all() for number, value in list(enumerate(found))[::2])
        assert all((value == number).all() for number, value in list(enumerate(found))[3::2])
        assert found[1].tolist() == [2.0] + [1.0] * 15


def test_variables_are_assigned_together_and_the_rest_is_left_to_tensorflow(
    comparing: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One by one TensorFlow takes 0.3 ms for each."""
    left = []

    def gather(position: Any) -> Any:
        left.append(type(position.trackable).__name__)
        return original(position)

    original = internals._tensorflows_gather
    monkeypatch.setattr(internals, "_tensorflows_gather", gather)
    words, own_shape = tf.Variable(["x"]), tf.Variable([1.0], shape=tf.TensorShape([None]))
    checkpoint = keras_checkpoint()
    fit(checkpoint)
    plain = tf.train.Checkpoint(a=tf.Variable(1.0), words=words, own_shape=own_shape, keras=checkpoint.model)
    restore(plain, saved(plain, tmp_path, comparing)).assert_consumed()
    names = [name for name in left if name.endswith("Variable")]
    assert names == ["ResourceVariable"], "the one that may have any shape"


DTYPES = ["float32", "float64", "float16", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"]
DTYPES += ["uint64", "bool", "complex64", "complex128", "float8_e4m3fn", "float8_e5m2"]


@pytest.mark.parametrize("shape", [[], [3], [0, 7], [129, 511]])
def test_every_dtype_is_restored_bit_for_bit(comparing: ModuleType, tmp_path: Path, shape: list[int]) -> None:
    def make(fill: int) -> Any:
        numbers = np.arange(fill, fill + int(np.prod(shape)), dtype=np.int64).reshape(shape) % 97
        return {name: tf.Variable(np.asarray(numbers).astype(tf.as_dtype(name).as_numpy_dtype)) for name in DTYPES}

    path = saved(tf.train.Checkpoint(**make(1)), tmp_path, comparing)
    restored = make(2)
    restore(tf.train.Checkpoint(**restored), path)
    for dtype, expected in make(1).items():
        assert restored[dtype].numpy().tobytes() == expected.numpy().tobytes(), dtype


def test_a_part_of_a_checkpoint_costs_that_part(comparing: ModuleType, tmp_path: Path) -> None:
    """A tensor that nobody asks for is not read: it may even be corrupt, where the whole was not verified before."""
    whole = tf.train.Checkpoint(backbone=tf.Variable(tf.ones([64, 64])), head=tf.Variable(tf.zeros([64, 64])))
    path = saved(whole, tmp_path, comparing)
    shard = tmp_path / "ckpt-1.data-00000-of-00001"
    content = shard.read_bytes()
    head = content.index(bytes(64 * 64 * 4))
    shard.write_bytes(content[:head] + b"x" + content[head + 1 :])
    part = tf.train.Checkpoint(backbone=tf.Variable(tf.zeros([64, 64])))
    restore(part, path).expect_partial()
    assert (part.backbone.numpy() == 1).all()
    with pytest.raises(CorruptCheckpoint, match="head"):
        restore(tf.train.Checkpoint(head=tf.Variable(tf.zeros([64, 64]))), path)


def test_a_value_that_does_not_fit_its_variable_is_explained_by_tensorflow(
    comparing: ModuleType, tmp_path: Path
) -> None:
    path = saved(tf.train.Checkpoint(v=tf.Variable(tf.ones([8]))), tmp_path, comparing)
    with pytest.raises(ValueError, match="shape"):
        restore(tf.train.Checkpoint(v=tf.Variable(tf.ones([9]))), path)
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError), match=r"dtype|float|double"):
        restore(tf.train.Checkpoint(v=tf.Variable(tf.ones([8], tf.float64))), path)
