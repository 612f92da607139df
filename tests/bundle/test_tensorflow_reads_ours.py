"""Every kind of checkpoint that distckpt writes, read by TensorFlow's own reader."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from distckpt.bundle.dtypes import DTYPES, STRING, DType
from distckpt.bundle.payload import Payload
from distckpt.bundle.reader import BundleReader
from distckpt.bundle.strings import encode_strings
from distckpt.model import Extent, Slice
from distckpt.storage.posix import PosixStorage

WriteBundle = Callable[..., object]
FIXED = [dtype for dtype in DTYPES.values() if not dtype.variable_length]
SHAPES = {"scalar": (), "empty": (0, 3), "vector": (5,), "cube": (2, 3, 4)}
OF_FEW_VALUES = {"bool": 2, "int2": 2, "uint2": 4, "int4": 8, "uint4": 16, "float4_e2m1fn": 16}


def random_bytes(dtype: DType, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    size = math.prod(shape) * dtype.item_bytes
    return np.random.default_rng(seed).integers(0, OF_FEW_VALUES.get(dtype.name, 256), size, dtype=np.uint8)


def restored(path: Path, name: str, dtype: int, slice_spec: str = "") -> tf.Tensor:
    return tf.raw_ops.RestoreV2(
        prefix=str(path), tensor_names=[name], shape_and_slices=[slice_spec], dtypes=[tf.as_dtype(dtype)]
    )[0]


def bytes_of(storage: PosixStorage, tmp_path: Path, tensor: tf.Tensor) -> bytes:
    """What TensorFlow itself stores of a tensor: for types that numpy does not know."""
    tf.raw_ops.SaveV2(prefix=str(tmp_path / "again"), tensor_names=["x"], shape_and_slices=[""], tensors=[tensor])
    return BundleReader(storage, "again").read("x").data.tobytes()


@pytest.mark.parametrize("dtype", FIXED, ids=lambda dtype: dtype.name)
def test_whole_tensors_of_every_type(
    storage: PosixStorage, tmp_path: Path, write_bundle: WriteBundle, dtype: DType
) -> None:
    data = {name: random_bytes(dtype, shape) for name, shape in SHAPES.items()}
    payloads = [Payload(name, dtype.number, shape, data[name]) for name, shape in SHAPES.items()]
    write_bundle("c", [payloads[:2], payloads[2:]])
    for name, shape in SHAPES.items():
        tensor = restored(tmp_path / "c", name, dtype.number)
        assert tuple(tensor.shape) == shape
        assert bytes_of(storage, tmp_path, tensor) == data[name].tobytes()


def test_values_are_what_they_were(
    tmp_path: Path, write_bundle: WriteBundle, payload_of: Callable[..., Payload]
) -> None:
    arrays = {
        "float32": np.array([1.5, -2, np.inf, np.nan], np.float32),
        "float64": np.array(np.pi),
        "float16": np.array([[1.5], [-2]], np.float16),
        "bfloat16": np.array([1.5, -2], ml_dtypes.bfloat16),
        "bool": np.array([True, False, True]),
        "int64": np.array([-(2**63), 2**63 - 1]),
        "uint64": np.array([0, 2**64 - 1], np.uint64),
        "complex128": np.array([1 + 2j]),
    }
    write_bundle("c", [[payload_of(name, array) for name, array in arrays.items()]])
    reader = tf.train.load_checkpoint(str(tmp_path / "c"))
    for name, array in arrays.items():
        read = reader.get_tensor(name)
        assert read.dtype == array.dtype
        np.testing.assert_array_equal(read, array)


STRINGS: dict[str, np.ndarray] = {
    "scalar": np.array("κόσμος".encode(), object),
    "empty": np.array([], object),
    "empties": np.array([b"", b"", b""], object),
    "mixed": np.array([[b"a", b""], [b"\x00\xff\n", b"x" * 127], [b"y" * 128, b"z" * 3_000_000]], object),
    "many": np.array([b"%d" % number for number in range(100_000)], object),
}


def test_string_tensors(tmp_path: Path, write_bundle: WriteBundle) -> None:
    payloads = []
    for name, array in STRINGS.items():
        data, crc = encode_strings(array.reshape(-1).tolist())
        payloads.append(Payload(name, STRING, array.shape, data, crc32c=crc))
    write_bundle("c", [payloads])
    for name, array in STRINGS.items():
        tensor = restored(tmp_path / "c", name, STRING)
        assert tuple(tensor.shape) == array.shape
        assert np.array_equal(tensor.numpy(), array.item() if array.shape == () else array)


@pytest.mark.parametrize("bounds", [(3,), (1, 10), (2, 3, 9), (1, 2, 3, 4)])
def test_a_tensor_in_uneven_slices_over_several_files(
    tmp_path: Path, write_bundle: WriteBundle, payload_of: Callable[..., Payload], bounds: tuple[int, ...]
) -> None:
    table = np.arange(33, dtype=np.float32).reshape(11, 3)
    edges = [0, *bounds, 11]
    shards = [[payload_of("table", table, rows, table.shape)] for rows in itertools.pairwise(edges)]
    write_bundle("c", shards[::-1])
    assert (tf.train.load_checkpoint(str(tmp_path / "c")).get_tensor("table") == table).all()
    assert (restored(tmp_path / "c", "table", 1) == table).numpy().all()
    assert (restored(tmp_path / "c", "table", 1, "11 3 2,7:-") == table[2:9]).numpy().all()
    assert (restored(tmp_path / "c", "table", 1, "11 3 0,11:1,2") == table[:, 1:]).numpy().all()


def test_a_tensor_cut_along_two_axes(tmp_path: Path, write_bundle: WriteBundle) -> None:
    table = np.arange(30, dtype=np.int32).reshape(5, 6)
    payloads = []
    for top, bottom in ((0, 2), (2, 5)):
        for left, right in ((0, 1), (1, 6)):
            part: Slice = (Extent(top, bottom - top), Extent(left, right - left))
            data = np.ascontiguousarray(table[top:bottom, left:right]).reshape(-1).view(np.uint8)
            payloads.append(Payload("table", 3, table.shape, data, part))
    write_bundle("c", [payloads[:3], payloads[3:]])
    assert (tf.train.load_checkpoint(str(tmp_path / "c")).get_tensor("table") == table).all()


@pytest.mark.parametrize("dtype", FIXED, ids=lambda dtype: dtype.name)
def test_slices_of_a_type_are_put_together_if_and_only_if_it_is_called_sliceable(
    storage: PosixStorage, tmp_path: Path, write_bundle: WriteBundle, dtype: DType
) -> None:
    shape, split = (5, 2), 2
    data = random_bytes(dtype, shape)
    at = split * shape[1] * dtype.item_bytes
    first, second = (Extent(0, split), Extent(0, 2)), (Extent(split, 3), Extent(0, 2))
    write_bundle(
        "c",
        [
            [Payload("x", dtype.number, shape, data[:at], first)],
            [Payload("x", dtype.number, shape, data[at:], second)],
        ],
    )
    part = restored(tmp_path / "c", "x", dtype.number, "5 2 2,3:-")
    assert bytes_of(storage, tmp_path, part) == data[at:].tobytes()
    if dtype.sliceable:
        assert bytes_of(storage, tmp_path, restored(tmp_path / "c", "x", dtype.number)) == data.tobytes()
    else:
        with pytest.raises(tf.errors.InvalidArgumentError, match="not supported"):
            restored(tmp_path / "c", "x", dtype.number)


def test_thousands_of_tensors_in_an_index_of_several_blocks(
    tmp_path: Path, write_bundle: WriteBundle, payload_of: Callable[..., Payload]
) -> None:
    names = [
        f"model/layer-{number}/a rather long name of a variable/.ATTRIBUTES/VARIABLE_VALUE" for number in range(9000)
    ]
    payloads = [payload_of(name, np.array([number], np.int64)) for number, name in enumerate(names)]
    write_bundle("c", [payloads[0::2], payloads[1::2]])
    assert (tmp_path / "c.index").stat().st_size > 2 * 262_144
    reader = tf.train.load_checkpoint(str(tmp_path / "c"))
    assert reader.get_variable_to_shape_map() == {name: [1] for name in names}
    assert [reader.get_tensor(name)[0] for name in names] == list(range(9000))


def test_names_of_any_characters(tmp_path: Path, write_bundle: WriteBundle, payload_of: Callable[..., Payload]) -> None:
    table = np.arange(4, dtype=np.float32)
    names = ["a", "ab", "é/ü", "with \x00 inside", "\U0010ffff", "\x01", "a" * 5000]
    write_bundle(
        "c",
        [
            [payload_of(name, table, (2, 4), (4,)) for name in names],
            [payload_of(name, table, (0, 2), (4,)) for name in names],
        ],
    )
    for name in names:
        assert (restored(tmp_path / "c", name, 1) == table).numpy().all(), name


def test_a_checkpoint_rewritten_tensor_by_tensor_restores_the_training(
    storage: PosixStorage, tmp_path: Path, write_bundle: WriteBundle
) -> None:
    def training() -> tuple[tf.train.Checkpoint, tf.Variable, tf.data.Iterator]:
        table = tf.Variable(tf.zeros([4, 3]))
        numbers = iter(tf.data.Dataset.range(100).shuffle(20, seed=7))
        return tf.train.Checkpoint(table=table, numbers=numbers, words=tf.Variable(["", ""])), table, numbers

    checkpoint, table, numbers = training()
    table.assign(tf.random.normal([4, 3]))
    next(numbers)
    checkpoint.words.assign(["one", "két"])
    checkpoint.save(str(tmp_path / "original"))
    expected = [int(next(numbers)) for _ in range(30)]
    reader = BundleReader(storage, "original-1")
    payloads = [reader.read(name) for name in reader.tensors]
    write_bundle("ours", [payloads[1:], payloads[:1]])

    fresh, restored_table, restored_numbers = training()
    fresh.restore(str(tmp_path / "ours")).assert_consumed()
    assert (restored_table.numpy() == table.numpy()).all()
    assert [int(next(restored_numbers)) for _ in range(30)] == expected
    assert fresh.words.numpy().tolist() == [b"one", "két".encode()]
