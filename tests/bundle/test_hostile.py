"""A checkpoint's files may hold anything, with checksums that are right: it is read, or refused by name. Never more
memory is taken than the files are large, and a little.
"""

from __future__ import annotations

import itertools
import math
import os
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distckpt.bundle import index as index_module
from distckpt.bundle.checksum import crc32c
from distckpt.bundle.difference import differences
from distckpt.bundle.dtypes import DTYPES
from distckpt.bundle.index import decode_index, encode_index
from distckpt.bundle.loader import Loader
from distckpt.bundle.reader import BundleReader
from distckpt.bundle.strings import encode_strings
from distckpt.bundle.table import encode_table
from distckpt.bundle.table_reader import decode_table
from distckpt.bundle.v1 import bundle_pb2 as pb
from distckpt.bundle.verify import verify
from distckpt.errors import CorruptCheckpoint, DistckptError, UnsupportedState
from distckpt.model import Entry, Extent
from distckpt.storage.memory import MemoryStorage
from distckpt.storage.posix import PosixStorage

FLOAT, STRING, VARIANT = 1, 7, 21
MEMORY_BYTES_MAX = 4 << 20
"""The files here have a few hundred bytes."""
FILE = bytes(range(256)) * 2
SOUND = encode_index([
    [
        Entry("a", FLOAT, (4, 3), 0, 24, 1, (Extent(0, 2), Extent(0, 3))),
        Entry("bias", FLOAT, (3,), 24, 12, 2),
        Entry("text", STRING, (2,), 36, 9, 3),
    ],
    [Entry("a", FLOAT, (4, 3), 0, 24, 4, (Extent(2, 2), Extent(0, 3)))],
])  # fmt: skip
EXTREMES = st.sampled_from([0, 1, 2, 3, 5, 255, 2**20, 2**31, 2**32, 2**40, 2**62, 2**63 - 1])
ODD = EXTREMES | EXTREMES.map(lambda number: -number)
bounded = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@contextmanager
def little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MEMORY_BYTES_MAX
    finally:
        tracemalloc.stop()


def directory(index: bytes, shards: int = 2) -> MemoryStorage:
    storage = MemoryStorage()
    storage.put("c.index", index)
    for shard in range(shards):
        storage.put(f"c.data-{shard:05d}-of-{shards:05d}", FILE)
    return storage


def read_in_every_way(storage: MemoryStorage) -> None:
    with little_memory():
        verify(storage, "c", threads=1)
        with suppress(DistckptError):
            reader = BundleReader(storage, "c")
            for name in reader.tensors:
                with suppress(DistckptError):
                    reader.read(name)
            for _ in differences(reader, reader):
                pass
        loader = Loader(storage, "c", threads=1)
        loader.verify(0, 1)
        for tensor in (["a"], ["bias", "text", "t0", "t1", "t2"]):
            with suppress(DistckptError):
                loader.take(tensor)


@st.composite
def mutated(draw: st.DrawFn, whole: bytes) -> bytes:
    """`whole` with bytes changed, cut out, repeated, or moved elsewhere."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at, end = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
        match draw(st.sampled_from(["change", "cut", "repeat", "splice", "insert"])):
            case "change":
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "cut":
                del data[at:end]
            case "repeat":
                data[end:end] = data[at:end] * draw(st.integers(1, 3))
            case "splice":
                data[draw(st.integers(0, at)) : at] = data[at:end]
            case "insert":
                data[at:at] = draw(st.binary(max_size=12))
    return bytes(data)


@bounded
@given(mutated(SOUND))
def test_a_mutated_index_is_read_or_refused(index: bytes) -> None:
    read_in_every_way(directory(index))


@st.composite
def forged_tables(draw: st.DrawFn) -> bytes:
    """The sound index with keys and values mutated, and all checksums right again."""
    items = dict(decode_table(SOUND, "i"))
    for _ in range(draw(st.integers(1, 3))):
        key = draw(st.sampled_from(sorted(items)))
        value = items.pop(key)
        key = draw(mutated(key)) if draw(st.booleans()) else key
        items[key] = draw(mutated(value))
    return encode_table(sorted(items.items()))


@bounded
@given(forged_tables())
def test_an_index_forged_with_right_checksums_is_read_or_refused(index: bytes) -> None:
    read_in_every_way(directory(index))


@st.composite
def forged_protos(draw: st.DrawFn) -> bytes:
    """The sound index with numbers of its entries replaced by extreme ones."""
    items = dict(decode_table(SOUND, "i"))
    key = draw(st.sampled_from(sorted(items)))
    if key == b"":
        header = pb.BundleHeaderProto(num_shards=draw(st.integers(-(2**31), 2**31 - 1)))
        return encode_table(sorted({**items, key: header.SerializeToString()}.items()))
    proto = pb.BundleEntryProto.FromString(items[key])
    for field in draw(st.sets(st.sampled_from(["size", "offset", "shape", "slices", "shard_id", "dtype"]), min_size=1)):
        match field:
            case "size" | "offset":
                setattr(proto, field, draw(ODD))
            case "shape":
                dims = draw(st.lists(ODD, max_size=5) | st.integers(60, 300).map(lambda rank: [1] * rank))
                proto.shape.CopyFrom(pb.TensorShapeProto(dim=[pb.TensorShapeProto.Dim(size=dim) for dim in dims]))
            case "slices":
                extents = [pb.TensorSliceProto.Extent(start=draw(ODD), length=draw(ODD)) for _ in range(2)]
                proto.slices.append(pb.TensorSliceProto(extent=extents))
            case "shard_id":
                proto.shard_id = draw(st.integers(-(2**31), 2**31 - 1))
            case "dtype":
                proto.dtype = draw(st.integers(0, 200))
    return encode_table(sorted({**items, key: proto.SerializeToString()}.items()))


@bounded
@given(forged_protos())
def test_an_index_with_absurd_numbers_is_read_or_refused(index: bytes) -> None:
    read_in_every_way(directory(index))


@st.composite
def forged_entries(draw: st.DrawFn) -> bytes:
    """Consistent entries of absurd tensors: of the sizes that their types and shapes ask for, cut into rows."""
    shards: list[list[Entry]] = [[], []]
    for number in range(draw(st.integers(1, 3))):
        shape = tuple(draw(st.lists(EXTREMES, min_size=1, max_size=4)))
        dtype = DTYPES[draw(st.sampled_from([FLOAT, STRING, VARIANT, 9, 10]))]
        cut = draw(st.sampled_from([0, 1, shape[0] // 2, shape[0] - 1]))
        cuts = [0, cut, shape[0]] if 0 < cut < shape[0] else [0, shape[0]]
        for start, end in itertools.pairwise(cuts):
            part = (Extent(start, end - start), *(Extent(0, dim) for dim in shape[1:]))
            size = math.prod((end - start, *shape[1:])) * (dtype.item_bytes or draw(st.integers(1, 3)))
            offset = draw(EXTREMES)
            if offset + size >= 2**63:
                size, offset = draw(EXTREMES), 0
            draw(st.sampled_from(shards)).append(Entry(f"t{number}", dtype.number, shape, offset, size, 0, part))
    return encode_index(shards)


@bounded
@given(forged_entries())
def test_absurd_tensors_are_read_or_refused(index: bytes) -> None:
    read_in_every_way(directory(index))


@bounded
@given(st.binary(max_size=40), st.sampled_from([STRING, VARIANT]), st.integers(0, 40))
def test_strings_and_variants_of_any_bytes_are_read_or_refused(data: bytes, dtype: int, count: int) -> None:
    size = max(len(data), count)
    storage = directory(encode_index([[Entry("t0", dtype, (count,), 0, size, 0)]]), shards=1)
    storage.put("c.data-00000-of-00001", data.ljust(size, b"\xff"))
    read_in_every_way(storage)


@bounded
@given(st.data())
def test_mutated_strings_are_read_or_refused(data: st.DataObject) -> None:
    sound, crc = encode_strings([b"abc", b"", b"x" * 200])
    content = data.draw(mutated(sound.tobytes()))
    entry = Entry("t0", STRING, (3,), 0, len(content), crc)
    if len(content) < 3:
        return
    storage = directory(encode_index([[entry]]), shards=1)
    storage.put("c.data-00000-of-00001", content)
    read_in_every_way(storage)


def rows(shape: tuple[int, ...], start: int, end: int, offset: int, size: int) -> Entry:
    return Entry("t0", 4, shape, offset, size, 0, (Extent(start, end - start), *(Extent(0, dim) for dim in shape[1:])))


def test_a_slice_that_is_there_makes_no_room_for_those_that_are_not() -> None:
    huge = 1 << 44
    storage = directory(encode_index([[rows((huge,), 0, 1, 0, 1), rows((huge,), 1, huge, 1, huge - 1)]]), shards=1)
    with little_memory():
        faults = Loader(storage, "c", threads=1).verify(0, 1)
    assert [fault.detail for fault in faults if "cut short" in fault.detail]


@pytest.mark.parametrize(
    "entries",
    [[rows((1 << 44,), 0, 1 << 44, 0, 1 << 44)], [rows((1 << 44,), 0, 1, 0, 1)]],
    ids=["beyond the file", "one row of many"],
)
def test_an_index_that_was_not_verified_makes_no_room(entries: Sequence[Entry]) -> None:
    loader = Loader(directory(encode_index([entries]), shards=1), "c", threads=1)
    with little_memory(), pytest.raises(CorruptCheckpoint, match=r"cut short|leave a gap"):
        loader.take(["t0"])


def test_an_index_that_was_replaced_after_it_was_verified_is_not_read() -> None:
    sound = Entry("t0", 4, (4,), 0, 4, crc32c(FILE[:4]))
    storage = directory(encode_index([[sound]]), shards=1)
    loader = Loader(storage, "c", threads=1)
    assert loader.verify() == []
    storage.put("c.index", encode_index([[replace(sound, offset=4)]]))
    assert loader.take(["t0"])[0].data.tobytes() == FILE[:4]


@pytest.mark.parametrize("shape", [(2, *[1] * 70), (2, 0, 2**62, 4)], ids=["70 dimensions", "empty and without bound"])
def test_a_shape_that_numpy_cannot_have_is_refused_by_name(shape: tuple[int, ...]) -> None:
    half = math.prod(shape) // 2
    parts = [rows(shape, start, start + 1, start * half, half) for start in (0, 1)]
    sums = [crc32c(FILE[part.offset : part.offset + half]) for part in parts]
    index = encode_index([[replace(part, crc32c=crc) for part, crc in zip(parts, sums, strict=True)]])
    reader = BundleReader(directory(index, shards=1), "c")
    with pytest.raises(UnsupportedState, match="t0"):
        reader.read("t0")


def test_a_deeply_nested_entry_is_refused() -> None:
    items = dict(decode_table(SOUND, "i"))
    items[b"bias"] = b"\x0b" * 20_000  # a group that opens, and opens, and opens
    with pytest.raises(CorruptCheckpoint):
        decode_index(encode_table(sorted(items.items())), "i")


HUGE_BYTES = 100 << 30


def test_a_huge_index_is_refused_before_it_is_read(tmp_path: Path) -> None:
    storage = PosixStorage(tmp_path)
    (tmp_path / "c.index").touch()
    os.truncate(tmp_path / "c.index", HUGE_BYTES)  # it has no blocks: it takes no room on the disk
    with little_memory():
        (fault,) = verify(storage, "c")
        assert (fault.file, str(HUGE_BYTES) in fault.detail) == ("c.index", True)
        assert Loader(storage, "c", threads=1).verify() == [fault]
        with pytest.raises(CorruptCheckpoint, match=str(HUGE_BYTES)):
            BundleReader(storage, "c")


def test_an_index_that_could_not_be_read_again_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [Entry("bias", FLOAT, (3,), 24, 12, 2)]
    size_bytes = len(encode_index([entries]))
    monkeypatch.setattr(index_module, "INDEX_BYTES_MAX", size_bytes)
    assert len(encode_index([entries])) == size_bytes
    monkeypatch.setattr(index_module, "INDEX_BYTES_MAX", size_bytes - 1)
    with pytest.raises(ValueError, match=f"{size_bytes} bytes"):
        encode_index([entries])
