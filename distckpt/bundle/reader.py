"""Reads tensors out of a checkpoint, whoever wrote it, without TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from distckpt.bundle.byte_stream import ByteStream
from distckpt.bundle.checksum import crc32c
from distckpt.bundle.coverage import find_defects
from distckpt.bundle.dtypes import dtype_of
from distckpt.bundle.index import Index, decode_index
from distckpt.bundle.index_file import read_index_file
from distckpt.bundle.names import data_file, index_file
from distckpt.bundle.payload import Payload
from distckpt.bundle.slices import held_shape
from distckpt.bundle.strings import checksum_elements
from distckpt.errors import CorruptCheckpoint, UnsupportedState
from distckpt.model import Entry
from distckpt.storage.interface import Readable


class BundleReader:
    """The checkpoint with the prefix `name`; opening it reads and checks the index, where that is not given.

    `index` is as in the file, `tensors` maps a tensor's name to its entries with their shards: one, or one a slice.
    Raises CorruptCheckpoint, and ObjectMissing where a file is not there.
    """

    def __init__(self, storage: Readable, name: str, index: Index | None = None) -> None:
        self._storage = storage
        self._name = name
        self.index = _sound_index(storage, index_file(name)) if index is None else index
        self.tensors: Mapping[str, tuple[tuple[int, Entry], ...]] = MappingProxyType(
            _by_name(self.index.shards.items())
        )

    @property
    def entries(self) -> tuple[Entry, ...]:
        return tuple(self.index)

    def read(self, tensor: str) -> Payload:
        """The whole tensor, put together from its slices where it has any; its checksums are verified.

        `crc32c` is that of the index for a string or variant tensor, else None. Raises KeyError for an unknown tensor,
        UnsupportedState for strings and variants in slices (TensorFlow cannot put them together either).
        """
        located = self.tensors[tensor]
        shard, entry = located[0]
        dtype = dtype_of(entry.dtype)
        if entry.part is None:
            crc = entry.crc32c if dtype.variable_length else None
            return Payload(tensor, entry.dtype, entry.shape, self._bytes(shard, entry), crc32c=crc)
        if dtype.variable_length:
            raise UnsupportedState(f"{tensor} is a sliced tensor of {dtype.name}: only whole ones can be read")
        parts = [(part, self._bytes(number, part)) for number, part in located]
        return Payload(tensor, entry.dtype, entry.shape, _assemble(parts, dtype.item_bytes))

    def _bytes(self, shard: int, entry: Entry) -> NDArray[np.uint8]:
        path = data_file(self._name, shard, self.index.num_shards)
        if self._storage.size(path) < entry.offset + entry.size_bytes:
            raise CorruptCheckpoint(path, f"{entry.name}: the file ends in the middle of it, or before")
        data = self._storage.read_at(path, entry.offset, entry.size_bytes)
        try:
            if _checksum(data, entry) != entry.crc32c:
                raise CorruptCheckpoint(path, f"{entry.name}: the checksum does not match")
        except ValueError as error:
            raise CorruptCheckpoint(path, f"{entry.name}: {error}") from error
        return np.frombuffer(data, np.uint8)


def _sound_index(storage: Readable, path: str) -> Index:
    index = decode_index(read_index_file(storage, path), path)
    for defect in find_defects(index.shards.values()):
        raise CorruptCheckpoint(path, str(defect))
    return index


def _by_name(shards: Iterable[tuple[int, tuple[Entry, ...]]]) -> dict[str, tuple[tuple[int, Entry], ...]]:
    tensors: dict[str, list[tuple[int, Entry]]] = {}
    for shard, entries in shards:
        for entry in entries:
            tensors.setdefault(entry.name, []).append((shard, entry))
    return {name: tuple(located) for name, located in tensors.items()}


def _checksum(data: bytes, entry: Entry) -> int:
    if not dtype_of(entry.dtype).variable_length:
        return crc32c(data)
    return checksum_elements(ByteStream.of(data), entry.dtype, math.prod(held_shape(entry.shape, entry.part)))


def _assemble(parts: Iterable[tuple[Entry, NDArray[np.uint8]]], item_bytes: int) -> NDArray[np.uint8]:
    whole: NDArray[np.uint8] | None = None
    for entry, data in parts:
        assert entry.part is not None
        if whole is None:
            whole = _room(entry, item_bytes)
        where = tuple(slice(extent.start, extent.end) for extent in entry.part)
        whole[where] = data.reshape(*held_shape(entry.shape, entry.part), item_bytes)
    assert whole is not None
    return whole.reshape(-1)


def _room(entry: Entry, item_bytes: int) -> NDArray[np.uint8]:
    """For the whole tensor; no more than its slices hold, which were read."""
    try:
        return np.empty((*entry.shape, item_bytes), np.uint8)
    except ValueError as error:  # more than 64 dimensions, or one without bound in a tensor that is empty
        raise UnsupportedState(f"{entry.name} is sliced, of a shape that NumPy cannot have: {error}") from error
