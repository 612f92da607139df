"""Every kind of checkpoint that TensorFlow writes, read by distckpt; and what is copied from TensorFlow, compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf.descriptor import Descriptor
from tensorflow.core.framework import tensor_shape_pb2, tensor_slice_pb2, types_pb2, versions_pb2
from tensorflow.core.protobuf import tensor_bundle_pb2
from tensorflow.python.training import checkpoint_state_pb2

from distckpt.bundle.dtypes import DTYPES, VARIANT
from distckpt.bundle.index import decode_index, encode_index
from distckpt.bundle.reader import BundleReader
from distckpt.bundle.statefile import CheckpointState, format_state, parse_state
from distckpt.bundle.strings import decode_strings
from distckpt.bundle.v1 import bundle_pb2
from distckpt.bundle.verify import verify
from distckpt.errors import UnsupportedState
from distckpt.model import Extent
from distckpt.storage.posix import PosixStorage


def save(path: Path, tensors: list[tuple[str, str, Any]]) -> None:
    """`tensors`: name, shape and slice ("" for a whole tensor), value."""
    names, slices, values = zip(*tensors, strict=True)
    tf.raw_ops.SaveV2(
        prefix=str(path), tensor_names=names, shape_and_slices=slices, tensors=[tf.constant(value) for value in values]
    )


def written_again(path: Path) -> bytes:
    index = decode_index(path.read_bytes(), path.name)
    return encode_index([index.shards.get(number, ()) for number in range(index.num_shards)])


TABLE = np.arange(20, dtype=np.float32).reshape(4, 5)


def read_table(storage: PosixStorage, name: str) -> np.ndarray:
    payload = BundleReader(storage, name).read("table")
    assert (payload.dtype, payload.shape, payload.part) == (1, (4, 5), None)
    return payload.data.view(np.float32).reshape(4, 5)


def test_a_checkpoint_object_with_variables_of_many_types(storage: PosixStorage, tmp_path: Path) -> None:
    types = ["float32", "float64", "float16", "bfloat16", "bool", "int8", "int64", "uint16", "complex64"]
    values = {name: tf.cast(tf.constant([[0, 1, 1], [1, 0, 1]]), name) for name in types}
    checkpoint = tf.train.Checkpoint(**{name: tf.Variable(value) for name, value in values.items()})
    checkpoint.scalar, checkpoint.empty = tf.Variable(7.0), tf.Variable(tf.zeros([0, 3]))
    path = checkpoint.save(str(tmp_path / "ckpt"))
    assert Path(path).name == "ckpt-1"
    assert verify(storage, "ckpt-1") == []
    reader = BundleReader(storage, "ckpt-1")
    for name, value in values.items():
        payload = reader.read(f"{name}/.ATTRIBUTES/VARIABLE_VALUE")
        assert payload.shape == (2, 3)
        assert payload.data.tobytes() == value.numpy().tobytes()
    assert reader.read("scalar/.ATTRIBUTES/VARIABLE_VALUE").data.view(np.float32) == [7.0]
    assert reader.read("empty/.ATTRIBUTES/VARIABLE_VALUE").shape == (0, 3)
    assert written_again(tmp_path / "ckpt-1.index") == (tmp_path / "ckpt-1.index").read_bytes()


def test_strings(storage: PosixStorage, tmp_path: Path) -> None:
    words = [b"", b"one", "két".encode(), b"\x00\xff" * 100, b"z" * 1_000_000]
    save(tmp_path / "s", [("words", "", words), ("none", "", np.array([], object).astype(bytes)), ("word", "", b"w")])
    assert verify(storage, "s") == []
    reader = BundleReader(storage, "s")
    for name, elements in (("words", words), ("none", []), ("word", [b"w"])):
        payload = reader.read(name)
        assert payload.crc32c is not None
        assert decode_strings(payload.data.tobytes(), len(elements), payload.crc32c) == elements


@pytest.mark.parametrize("rest", ["-", "0,5"])
def test_slices_with_whole_dimensions_in_either_spelling(storage: PosixStorage, tmp_path: Path, rest: str) -> None:
    save(tmp_path / "s", [("table", f"4 5 0,1:{rest}", TABLE[:1]), ("table", f"4 5 1,3:{rest}", TABLE[1:])])
    assert verify(storage, "s") == []
    assert (read_table(storage, "s") == TABLE).all()
    parts = [entry.part for entry in BundleReader(storage, "s").entries]
    assert parts == [(Extent(0, 1), Extent(0, 5)), (Extent(1, 3), Extent(0, 5))]
    assert (written_again(tmp_path / "s.index") == (tmp_path / "s.index").read_bytes()) == (rest == "-")


def test_a_grid_of_slices(storage: PosixStorage, tmp_path: Path) -> None:
    cells = [
        ("table", f"4 5 {top},{rows}:{left},{columns}", TABLE[top : top + rows, left : left + columns])
        for top, rows in ((0, 3), (3, 1))
        for left, columns in ((0, 2), (2, 3))
    ]
    save(tmp_path / "s", cells)
    assert verify(storage, "s") == []
    assert (read_table(storage, "s") == TABLE).all()
    assert written_again(tmp_path / "s.index") == (tmp_path / "s.index").read_bytes()


def test_slices_that_leave_a_gap_are_a_fault_though_tensorflow_saves_them(
    storage: PosixStorage, tmp_path: Path
) -> None:
    save(tmp_path / "s", [("table", "4 5 0,1:-", TABLE[:1]), ("table", "4 5 2,2:-", TABLE[2:])])
    assert [str(fault) for fault in verify(storage, "s")] == ["s.index: table: its slices leave a gap at [1, 0]"]


def test_merged_checkpoints_of_several_writers(storage: PosixStorage, tmp_path: Path) -> None:
    save(tmp_path / "one", [("table", "4 5 2,2:-", TABLE[2:]), ("a", "", [1, 2])])
    save(tmp_path / "two", [("words", "", ["x", ""]), ("table", "4 5 0,2:-", TABLE[:2])])
    save(tmp_path / "three", [("b", "", 3.5)])
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=[str(tmp_path / name) for name in ("one", "two", "three")],
        destination_prefix=str(tmp_path / "merged"),
        delete_old_dirs=False,
    )
    assert verify(storage, "merged") == []
    assert (read_table(storage, "merged") == TABLE).all()
    reader = BundleReader(storage, "merged")
    assert reader.index.num_shards == 3
    assert reader.read("a").data.view(np.int32).tolist() == [1, 2]
    assert reader.read("b").data.view(np.float32).tolist() == [3.5]


def test_thousands_of_tensors_are_indexed_byte_for_byte_alike(storage: PosixStorage, tmp_path: Path) -> None:
    save(
        tmp_path / "m", [(f"model/layer-{number}/{'long ' * (number % 40)}name", "", number) for number in range(8000)]
    )
    assert (tmp_path / "m.index").stat().st_size > 2 * 262_144
    assert verify(storage, "m") == []
    assert written_again(tmp_path / "m.index") == (tmp_path / "m.index").read_bytes()


def test_variants_of_an_iterator_are_verified_element_by_element(storage: PosixStorage, tmp_path: Path) -> None:
    numbers = iter(tf.data.Dataset.range(100).shuffle(20))
    next(numbers)
    tf.train.Checkpoint(numbers=numbers).write(str(tmp_path / "v"))
    assert verify(storage, "v") == []
    entry = next(entry for entry in BundleReader(storage, "v").entries if entry.dtype == VARIANT)
    data = tmp_path / "v.data-00000-of-00001"
    content = data.read_bytes()
    for at in range(entry.offset, entry.offset + entry.size_bytes, 7):
        data.write_bytes(content[:at] + bytes((content[at] ^ 1,)) + content[at + 1 :])
        assert [fault.tensor for fault in verify(storage, "v")] == [entry.name], f"byte {at - entry.offset}"


def test_sliced_strings_are_verified_and_not_put_together(storage: PosixStorage, tmp_path: Path) -> None:
    save(tmp_path / "s", [("words", "2 0,1", [b"a"]), ("words", "2 1,1", [b"b"])])
    assert verify(storage, "s") == []
    with pytest.raises(UnsupportedState, match="words is a sliced tensor of string"):
        BundleReader(storage, "s").read("words")


def test_our_table_of_types_is_tensorflows() -> None:
    numbers = {number for name, number in types_pb2.DataType.items() if not name.endswith("_REF")}
    assert set(DTYPES) == numbers - {types_pb2.DT_INVALID, types_pb2.DT_RESOURCE}
    for number, dtype in DTYPES.items():
        if number != VARIANT:  # TensorFlow knows no size of it
            assert (dtype.name, dtype.item_bytes) == (tf.as_dtype(number).name, tf.as_dtype(number).size)


def wire_format(message: Descriptor) -> dict[str, tuple[int, str, object]]:
    """Per field: number, how it is encoded, and the same of a message's fields. An enum is encoded as an int32 is."""
    kinds = {field.TYPE_ENUM: field.TYPE_INT32 for field in message.fields}
    return {
        field.name: (
            field.number,
            f"{kinds.get(field.type, field.type)} {'repeated' if field.is_repeated else 'single'}",
            wire_format(field.message_type) if field.message_type else None,
        )
        for field in message.fields
    }


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (tensor_bundle_pb2, "BundleHeaderProto"),
        (tensor_bundle_pb2, "BundleEntryProto"),
        (tensor_shape_pb2, "TensorShapeProto"),
        (tensor_slice_pb2, "TensorSliceProto"),
        (versions_pb2, "VersionDef"),
        (checkpoint_state_pb2, "CheckpointState"),
    ],
)
def test_our_messages_are_encoded_as_tensorflows(module: Any, name: str) -> None:
    theirs, ours = getattr(module, name).DESCRIPTOR, getattr(bundle_pb2, name).DESCRIPTOR
    assert wire_format(ours) == wire_format(theirs)


STATES = [
    CheckpointState("ckpt-3", ("ckpt-1", "ckpt-3"), (1700000000.25, 1.7e9), 1699999999.123456),
    CheckpointState("ckpt-3", ("ckpt-3",), (1e20,), 1e-3),
    CheckpointState('/abs/quote"\\back\nline\té ü/日本', ('/abs/quote"\\back\nline\té ü/日本',), (0.1,), None),
    CheckpointState("m", ("m",), (), None),
]


@pytest.mark.parametrize("state", STATES, ids=range(len(STATES)))
def test_the_state_file_is_byte_for_byte_tensorflows(tmp_path: Path, state: CheckpointState) -> None:
    tf.compat.v1.train.update_checkpoint_state(
        str(tmp_path),
        state.model_checkpoint_path,
        all_model_checkpoint_paths=list(state.all_model_checkpoint_paths),
        all_model_checkpoint_timestamps=list(state.all_model_checkpoint_timestamps) or None,
        last_preserved_timestamp=state.last_preserved_timestamp,
    )
    assert format_state(state) == (tmp_path / "checkpoint").read_bytes()
    assert parse_state((tmp_path / "checkpoint").read_bytes()) == state


def test_no_time_and_time_zero_are_the_same_in_the_state_file() -> None:
    assert format_state(CheckpointState("c", ("c",), (), 0.0)) == format_state(CheckpointState("c", ("c",)))
    assert parse_state(b'model_checkpoint_path: "c"\nlast_preserved_timestamp: 0\n').last_preserved_timestamp is None


def test_the_state_file_of_a_checkpoint_manager_is_parsed(tmp_path: Path) -> None:
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(x=tf.Variable(1.0)), str(tmp_path), max_to_keep=2)
    for _ in range(3):
        manager.save()
    state = parse_state((tmp_path / "checkpoint").read_bytes())
    assert state.model_checkpoint_path == "ckpt-3"
    assert state.all_model_checkpoint_paths == ("ckpt-2", "ckpt-3")
    assert len(state.all_model_checkpoint_timestamps) == 2
    assert state.last_preserved_timestamp is not None
    (tmp_path / "checkpoint").write_bytes(format_state(state))
    assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / "ckpt-3")
