from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distckpt.bundle.coverage import check_coverage
from distckpt.bundle.dtypes import DTYPES
from distckpt.bundle.index import Index, decode_index, encode_index
from distckpt.bundle.slices import encode_slice_key
from distckpt.bundle.table import encode_table
from distckpt.bundle.table_reader import decode_table
from distckpt.bundle.v1 import bundle_pb2 as pb
from distckpt.errors import CorruptCheckpoint
from distckpt.model import Entry, Extent

FLOAT = 1
HEADER = pb.BundleHeaderProto(num_shards=2, version=pb.VersionDef(producer=1)).SerializeToString()

names = st.text(min_size=1, max_size=12).filter(lambda name: not name.startswith("\0"))
shapes = st.lists(st.integers(0, 9), max_size=4).map(tuple)


@st.composite
def shards_of_a_checkpoint(draw: st.DrawFn) -> list[list[Entry]]:
    """Tensors of any type and shape, some cut along their first axis, spread over some data files."""
    shards: list[list[Entry]] = [[] for _ in range(draw(st.integers(1, 3)))]
    for name in draw(st.sets(names, max_size=8)):
        dtype, shape = draw(st.sampled_from(sorted(DTYPES.values(), key=lambda d: d.number))), draw(shapes)
        cuts = draw(st.sets(st.integers(1, shape[0] - 1), max_size=3)) if shape and shape[0] > 1 else set()
        for start, end in itertools.pairwise([0, *sorted(cuts), shape[0] if cuts else 0]):
            part = (Extent(start, end - start), *(Extent(0, dim) for dim in shape[1:])) if cuts else None
            held = shape if part is None else tuple(extent.length for extent in part)
            shard = draw(st.sampled_from(shards))
            offset = shard[-1].offset + shard[-1].size_bytes if shard else 0
            size = math.prod(held) * max(dtype.item_bytes, 5)
            size = math.prod(held) * dtype.item_bytes if dtype.item_bytes else size
            shard.append(Entry(name, dtype.number, shape, offset, size, draw(st.integers(0, 2**32 - 1)), part))
    return shards


def shards_of(index: Index) -> list[list[Entry]]:
    return [sorted(index.shards.get(number, ()), key=repr) for number in range(index.num_shards)]


@given(shards_of_a_checkpoint())
def test_an_index_is_read_as_it_was_written(shards: list[list[Entry]]) -> None:
    data = encode_index(shards)
    assert shards_of(decode_index(data, "i")) == [sorted(shard, key=repr) for shard in shards]
    check_coverage(shards)


@given(shards_of_a_checkpoint(), st.data())
def test_no_byte_of_an_index_can_change_unseen(shards: list[list[Entry]], data: st.DataObject) -> None:
    index = bytearray(encode_index(shards))
    index[data.draw(st.integers(0, len(index) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CorruptCheckpoint, match=r"^i: "):
        decode_index(bytes(index), "i")


@given(shards_of_a_checkpoint(), st.data())
def test_hostile_entries_with_right_checksums_are_read_or_refused(
    shards: list[list[Entry]], data: st.DataObject
) -> None:
    items = dict(decode_table(encode_index(shards), "i"))
    for _ in range(data.draw(st.integers(1, 4))):
        key = data.draw(st.sampled_from(sorted(items)) | st.binary(max_size=20))
        value = bytearray(items.get(key, b""))
        if value and data.draw(st.booleans()):
            value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
        else:
            value = bytearray(data.draw(st.binary(max_size=40)))
        items[key] = bytes(value)
    try:
        index = decode_index(encode_table(sorted(items.items())), "i")
    except CorruptCheckpoint:
        return
    assert all(entry.offset >= 0 and entry.size_bytes >= 0 for entry in index)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_no_index(data: bytes) -> None:
    with pytest.raises(CorruptCheckpoint):
        decode_index(data, "i")


def entry_proto(**fields: object) -> pb.BundleEntryProto:
    proto = pb.BundleEntryProto(dtype=FLOAT, shape=shape_proto(2), size=8)
    for name, value in fields.items():
        if name == "shape":
            proto.shape.CopyFrom(value)
        else:
            setattr(proto, name, value)
    return proto


def shape_proto(*dims: int, **fields: bool) -> pb.TensorShapeProto:
    return pb.TensorShapeProto(dim=[pb.TensorShapeProto.Dim(size=dim) for dim in dims], **fields)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"dtype": 20}, "x: there is no data type 20"),
        ({"dtype": 101}, "no data type 101"),
        ({"size": 9}, r"float32\[2\] takes 8 bytes, not 9"),
        ({"size": -8}, "impossible place"),
        ({"offset": -1}, "impossible place"),
        ({"offset": 2**63 - 1}, "impossible place"),
        ({"shard_id": 2}, "x is in data file 2 of 2"),
        ({"shard_id": -1}, "x is in data file -1 of 2"),
        ({"shape": shape_proto(-1)}, "cannot have the shape"),
        ({"shape": shape_proto(2, unknown_rank=True)}, "cannot have the shape"),
        ({"shape": shape_proto(*[1] * 255)}, "cannot have the shape"),
        ({"shape": shape_proto(*[2**62] * 254)}, "cannot have the shape"),
        ({"dtype": 7, "size": 1}, "2 elements of string cannot fit in 1 bytes"),
    ],
)
def test_an_impossible_entry_is_named(fields: dict[str, object], complaint: str) -> None:
    table = encode_table([(b"", HEADER), (b"x", entry_proto(**fields).SerializeToString())])
    with pytest.raises(CorruptCheckpoint, match=complaint):
        decode_index(table, "i")


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        (pb.BundleHeaderProto(num_shards=0), "0 data files"),
        (pb.BundleHeaderProto(num_shards=2**31 - 1), "2147483647 data files"),
        (pb.BundleHeaderProto(num_shards=1, endianness=pb.BundleHeaderProto.BIG), "big-endian"),
        (pb.BundleHeaderProto(num_shards=1, version=pb.VersionDef(min_consumer=2)), "version 2"),
    ],
)
def test_an_impossible_header_is_refused(header: pb.BundleHeaderProto, complaint: str) -> None:
    with pytest.raises(CorruptCheckpoint, match=complaint):
        decode_index(encode_table([(b"", header.SerializeToString())]), "i")


def test_an_index_without_header_is_refused() -> None:
    for items in ([], [(b"x", entry_proto().SerializeToString())]):
        with pytest.raises(CorruptCheckpoint, match="no header"):
            decode_index(encode_table(items), "i")


def rows(name: str, start: int, length: int, total: int = 6, **changes: object) -> Entry:
    part = (Extent(start, length), Extent(0, 2))
    entry = Entry(name, FLOAT, (total, 2), 0, length * 8, 7, part)
    return dataclasses.replace(entry, **changes)


def items_of(*shards: Sequence[Entry]) -> dict[bytes, bytes]:
    return dict(decode_table(encode_index(shards), "i"))


def test_slices_are_stored_under_the_keys_that_tensorflow_looks_for() -> None:
    items = items_of([rows("p", 3, 3)], [rows("p", 0, 3)])
    assert set(items) == {
        b"",
        b"p",
        encode_slice_key(b"p", ((0, 3), (0, -1))),
        encode_slice_key(b"p", ((3, 3), (0, -1))),
    }
    listed = pb.BundleEntryProto.FromString(items[b"p"]).slices
    assert [[(e.start, e.length, e.HasField("length")) for e in part.extent] for part in listed] == [
        [(0, 3, True), (0, 0, False)],
        [(3, 3, True), (0, 0, False)],
    ]


def test_a_slice_that_is_listed_and_not_there_is_named() -> None:
    items = items_of([rows("p", 0, 3), rows("p", 3, 3)])
    del items[encode_slice_key(b"p", ((3, 3), (0, -1)))]
    with pytest.raises(CorruptCheckpoint, match=r"the slice \[3:6, 0:2\] of p is listed, but not there"):
        decode_index(encode_table(sorted(items.items())), "i")


def test_slices_without_their_tensor_are_named() -> None:
    items = items_of([rows("p", 0, 3), rows("p", 3, 3)])
    del items[b"p"]
    with pytest.raises(CorruptCheckpoint, match="slices of p, but not the tensor"):
        decode_index(encode_table(sorted(items.items())), "i")


def test_a_slice_stored_under_both_of_its_spellings_is_refused() -> None:
    items = items_of([rows("p", 0, 3), rows("p", 3, 3)])
    items[encode_slice_key(b"p", ((3, 3), (0, 2)))] = items[encode_slice_key(b"p", ((3, 3), (0, -1)))]
    with pytest.raises(CorruptCheckpoint, match="stored twice, or not listed"):
        decode_index(encode_table(sorted(items.items())), "i")


def test_a_slice_that_is_the_whole_tensor_is_stored_as_one() -> None:
    assert set(items_of([rows("p", 0, 6)])) == {b"", b"p"}


@pytest.mark.parametrize(
    ("shards", "complaint"),
    [
        ([[rows("p", 0, 6)], [rows("p", 0, 6)]], "^p: written twice"),
        ([[rows("p", 0, 3)], [rows("p", 0, 3)]], r"^p: written twice as \[0:3, 0:2\]"),
        ([[rows("p", 0, 6)], [rows("p", 0, 3)]], "^p: written both whole and in slices"),
        ([[rows("p", 0, 3)], [rows("p", 3, 3, dtype=3)]], "^p: its slices are of different types"),
        ([[rows("", 0, 6)]], "cannot be empty"),
        ([[rows("\0p", 0, 6)]], "begin with NUL"),
    ],
)
def test_what_cannot_be_indexed_is_refused_by_name(shards: list[list[Entry]], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        encode_index(shards)


def test_a_name_that_is_no_utf8_survives() -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    entry = rows(name, 0, 6, part=None)
    assert list(decode_index(encode_index([[entry]]), "i")) == [entry]
