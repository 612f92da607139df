"""The `.index` file: which tensor, or slice of one, stands where in which data file.

A sorted table (see `table`): under the empty key the header, under a tensor's name its entry; a sliced tensor's entry
lists its slices, each of which has an entry of its own under a slice key (see `slices`). Whether the entries together
are whole tensors is `coverage`'s to say: call it before writing and after reading.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter

from google.protobuf.message import DecodeError

from distckpt.bundle.checksum import mask, unmask
from distckpt.bundle.dtypes import check_size, dtype_of
from distckpt.bundle.slices import (
    SLICE_KEY_PREFIX,
    decode_slice_key,
    decode_slice_proto,
    describe,
    encode_slice_key,
    encode_slice_proto,
    extents_of,
    held_shape,
    is_whole,
    resolve,
)
from distckpt.bundle.table import encode_table
from distckpt.bundle.table_reader import decode_table
from distckpt.bundle.v1 import bundle_pb2 as pb
from distckpt.errors import CorruptCheckpoint
from distckpt.model import Entry, Slice

VERSION = 1
INDEX_BYTES_MAX = 256 << 20
"""Of two million tensors and more: what is larger is neither written nor read."""
SHARDS_MAX = 100_000
RANK_MAX = 254
_INT64_MAX = 2**63 - 1
_HEADER_KEY = b""


@dataclass(frozen=True, slots=True)
class Index:
    """`shards` maps the number of a data file to its entries, by offset; files without any are not in it."""

    num_shards: int
    shards: Mapping[int, tuple[Entry, ...]]

    def __iter__(self) -> Iterator[Entry]:
        for number in sorted(self.shards):
            yield from self.shards[number]


def encode_index(shards: Sequence[Sequence[Entry]]) -> bytes:
    """The file for a checkpoint whose data file i holds the entries `shards[i]`.

    Raises ValueError, naming the tensor, if two entries have one key or slices of a tensor disagree about it, and where
    the index would be too large to be read again.
    """
    items = {
        _HEADER_KEY: pb.BundleHeaderProto(num_shards=len(shards), version={"producer": VERSION}).SerializeToString()
    }
    sliced: dict[str, list[Entry]] = {}
    for number, entries in enumerate(shards):
        for entry in entries:
            key, shape = _place(entry)
            if key in items:
                raise ValueError(f"{entry.name}: written twice" + (f" as {describe(entry.part)}" if entry.part else ""))
            items[key] = _entry_proto(entry, shape, number)
            if key.startswith(SLICE_KEY_PREFIX):
                sliced.setdefault(entry.name, []).append(entry)
    for name, parts in sliced.items():
        key = _name_key(name)
        if key in items:
            raise ValueError(f"{name}: written both whole and in slices")
        items[key] = _sliced_proto(parts)
    table = encode_table(sorted(items.items()))
    if len(table) > INDEX_BYTES_MAX:
        raise ValueError(f"{len(items)} tensors and slices make an index of {len(table)} bytes: too large")
    return table


def _name_key(name: str) -> bytes:
    key = name.encode("utf-8", "surrogateescape")
    if not key or key.startswith(SLICE_KEY_PREFIX):
        raise ValueError(f"{name!r}: a tensor's name cannot be empty or begin with NUL")
    return key


def _place(entry: Entry) -> tuple[bytes, tuple[int, ...]]:
    """The entry's key, and the shape of what it holds."""
    key = _name_key(entry.name)
    if entry.part is None or is_whole(entry.part, entry.shape):
        return key, entry.shape
    return encode_slice_key(key, extents_of(entry.part, entry.shape)), held_shape(entry.shape, entry.part)


@lru_cache(maxsize=4096)
def _shape_proto(shape: tuple[int, ...]) -> pb.TensorShapeProto:
    return pb.TensorShapeProto(dim=[pb.TensorShapeProto.Dim(size=dim) for dim in shape])


def _entry_proto(entry: Entry, shape: tuple[int, ...], shard: int) -> bytes:
    return pb.BundleEntryProto(
        dtype=entry.dtype,
        shape=_shape_proto(shape),
        shard_id=shard,
        offset=entry.offset,
        size=entry.size_bytes,
        crc32c=mask(entry.crc32c),
    ).SerializeToString()


def _sliced_proto(parts: list[Entry]) -> bytes:
    """The entry of a sliced tensor: no place of its own, but the list of its slices."""
    first = parts[0]
    if any((part.dtype, part.shape) != (first.dtype, first.shape) for part in parts):
        raise ValueError(f"{first.name}: its slices are of different types or shapes")
    slices = sorted(part.part for part in parts if part.part is not None)
    return pb.BundleEntryProto(
        dtype=first.dtype,
        shape=_shape_proto(first.shape),
        slices=[encode_slice_proto(extents_of(part, first.shape)) for part in slices],
    ).SerializeToString()


def decode_index(data: bytes, path: str) -> Index:
    """Reads the content of an `.index` file, whoever wrote it. `path` is for the error.

    Raises CorruptCheckpoint for anything that is not a consistent index: checksums, bounds, sizes, slices without their
    tensor or tensors without their slices. Also for what only a big-endian machine or a later TensorFlow can have
    written.
    """
    items = decode_table(data, path)
    try:
        return _Decoder(_num_shards(next(items, None))).decode(items)
    except (ValueError, DecodeError) as error:
        raise CorruptCheckpoint(path, str(error)) from error


def _num_shards(item: tuple[bytes, bytes] | None) -> int:
    if item is None or item[0] != _HEADER_KEY:
        raise ValueError("it has no header")
    header = pb.BundleHeaderProto.FromString(item[1])
    if header.endianness != pb.BundleHeaderProto.LITTLE:
        raise ValueError("it was written on a big-endian machine, which distckpt does not read")
    if header.version.min_consumer > VERSION:
        raise ValueError(f"it can only be read from version {header.version.min_consumer} of the format on")
    if not 1 <= header.num_shards <= SHARDS_MAX:
        raise ValueError(f"it tells of {header.num_shards} data files")
    return header.num_shards


class _Decoder:
    """Slice keys sort before names: the slices are kept until their tensor's entry tells the full shape."""

    def __init__(self, num_shards: int) -> None:
        self.num_shards = num_shards
        self.shards: dict[int, list[Entry]] = {}
        self.shapes: dict[bytes, tuple[int, ...]] = {}
        self.sound_sizes: set[tuple[int, tuple[int, ...], int]] = set()
        self.slices: dict[bytes, list[tuple[tuple[tuple[int, int], ...], pb.BundleEntryProto]]] = {}

    def decode(self, items: Iterator[tuple[bytes, bytes]]) -> Index:
        for key, value in items:
            proto = pb.BundleEntryProto.FromString(value)
            if key.startswith(SLICE_KEY_PREFIX):
                name, extents = decode_slice_key(key)
                self.slices.setdefault(name, []).append((extents, proto))
            elif proto.slices:
                self._sliced(key, proto)
            else:
                self._add(_name(key), self._shape(proto), proto, None)
        if self.slices:
            raise ValueError(f"there are slices of {_name(next(iter(self.slices)))}, but not the tensor")
        return Index(self.num_shards, {number: _by_offset(self.shards[number]) for number in sorted(self.shards)})

    def _sliced(self, key: bytes, proto: pb.BundleEntryProto) -> None:
        name, shape = _name(key), self._shape(proto)
        listed = {resolve(decode_slice_proto(part), shape) for part in proto.slices}
        for extents, slice_proto in self.slices.pop(key, []):
            part = resolve(extents, shape)
            if part not in listed:
                raise ValueError(f"the slice {describe(part)} of {name} is stored twice, or not listed")
            if slice_proto.dtype != proto.dtype or self._shape(slice_proto) != held_shape(shape, part):
                raise ValueError(f"the slice {describe(part)} of {name} is of another type or shape than listed")
            listed.remove(part)
            self._add(name, shape, slice_proto, part)
        if listed:
            raise ValueError(f"the slice {describe(min(listed))} of {name} is listed, but not there")

    def _add(self, name: str, shape: tuple[int, ...], proto: pb.BundleEntryProto, part: Slice | None) -> None:
        shard, offset, size = proto.shard_id, proto.offset, proto.size
        if not 0 <= shard < self.num_shards:
            raise ValueError(f"{name} is in data file {shard} of {self.num_shards}")
        if offset < 0 or size < 0 or offset + size > _INT64_MAX:
            raise ValueError(f"{name} is at the impossible place {offset}, {size} bytes long")
        held = held_shape(shape, part)
        sized = proto.dtype, held, size
        if sized not in self.sound_sizes:  # many tensors are alike
            try:
                check_size(dtype_of(proto.dtype), held, size)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
            self.sound_sizes.add(sized)
        entry = Entry(name, proto.dtype, shape, offset, size, unmask(proto.crc32c), part)
        self.shards.setdefault(shard, []).append(entry)

    def _shape(self, proto: pb.BundleEntryProto) -> tuple[int, ...]:
        """Many tensors have the same: it is looked at once."""
        encoded = proto.shape.SerializeToString()
        shape = self.shapes.get(encoded)
        if shape is None:
            shape = self.shapes[encoded] = _sound_shape(proto.shape)
        return shape


def _by_offset(entries: list[Entry]) -> tuple[Entry, ...]:
    """Of two at one offset, the empty one first."""
    entries.sort(key=attrgetter("size_bytes"))
    entries.sort(key=attrgetter("offset"))
    return tuple(entries)


def _name(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")


def _sound_shape(proto: pb.TensorShapeProto) -> tuple[int, ...]:
    shape = tuple(dim.size for dim in proto.dim)
    impossible = any(dim < 0 for dim in shape) or math.prod(shape) > _INT64_MAX
    if impossible or proto.unknown_rank or len(shape) > RANK_MAX:
        raise ValueError(f"a tensor cannot have the shape {list(shape)[:8]}")
    return shape
