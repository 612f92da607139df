"""Shared by the tests of the checkpoint format: a directory, and bundles written into it as a save writes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from distckpt.bundle.dtypes import DTYPES
from distckpt.bundle.index import encode_index
from distckpt.bundle.names import data_file, index_file
from distckpt.bundle.payload import Payload
from distckpt.bundle.writer import write_share
from distckpt.model import Entry, Extent
from distckpt.storage.posix import PosixStorage

NUMBERS = {dtype.name: dtype.number for dtype in DTYPES.values()}

PayloadOf = Callable[..., Payload]
WriteBundle = Callable[..., list[tuple[Entry, ...]]]


@pytest.fixture
def storage(tmp_path: Path) -> PosixStorage:
    return PosixStorage.create(tmp_path)


@pytest.fixture(scope="session")
def payload_of() -> PayloadOf:
    """`payload_of(name, array, rows=None, shape=None)`: `rows` (start, end) of an array that is `shape` in full."""

    def make(
        name: str,
        array: NDArray[np.generic],
        rows: tuple[int, int] | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> Payload:
        shape = array.shape if shape is None else shape
        part = None
        if rows is not None:
            part = (Extent(rows[0], rows[1] - rows[0]), *(Extent(0, dim) for dim in shape[1:]))
            array = array[rows[0] : rows[1]]
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        return Payload(name, NUMBERS[array.dtype.name], shape, data, part)

    return make


@pytest.fixture
def write_bundle(storage: PosixStorage) -> WriteBundle:
    """`write_bundle(name, shards)`: writes and publishes the payloads of each shard, then the index; the entries."""

    def write(name: str, shards: Sequence[Sequence[Payload]]) -> list[tuple[Entry, ...]]:
        written = []
        for number, payloads in enumerate(shards):
            file = storage.stage(1, f"{name}-{number}")
            entries, size = write_share(payloads, file, threads=2)
            key = data_file(name, number, len(shards))
            storage.publish(file.seal(), key)
            assert storage.size(key) == size
            written.append(entries)
        storage.put(index_file(name), encode_index(written))
        return written

    return write
