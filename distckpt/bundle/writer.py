"""Writes a share into a data file: the tensors one after the other without gaps, checksummed on the way."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from distckpt.bundle.checksum import crc32c
from distckpt.bundle.dtypes import check_size, dtype_of
from distckpt.bundle.parallel import for_each
from distckpt.bundle.payload import Payload
from distckpt.bundle.runs import Checksums, Run, even_runs
from distckpt.bundle.slices import held_shape
from distckpt.model import Entry
from distckpt.storage.interface import StagedFile

RUN_BYTES = 1 << 20
"""So much is copied into a core's own cache, and checksummed and written from there: each byte comes from memory once,
at the speed of a copy, which a checksum does not reach. All runs begin at a multiple of it: a file system takes pages
in large groups only where they are written whole."""


def write_share(payloads: Sequence[Payload], file: StagedFile, *, threads: int) -> tuple[tuple[Entry, ...], int]:
    """Writes `payloads` in their order, on `threads` threads. Returns the entries for the index, and the bytes written.

    Every byte of the file is under the checksum of a tensor. Does not seal. Raises ValueError, naming the tensor, for a
    payload whose bytes do not fit its type and shape; else the first StorageError, when all threads have ended.
    """
    for payload in payloads:
        _check(payload)
    offsets = list(itertools.accumulate((payload.data.size for payload in payloads), initial=0))
    checksums = Checksums(payload.data.size for payload in payloads)
    own = threading.local()  # to each thread, its memory: fresh memory costs more than the copy

    def write(run: Run) -> None:
        data = together(run)
        start = 0
        for portion in run.portions:
            checksums.add(portion, crc32c(data[start : start + portion.length]))
            start += portion.length
        file.write_at(run.offset, data)

    def together(run: Run) -> NDArray[np.uint8]:
        if not hasattr(own, "memory"):
            own.memory = np.empty(RUN_BYTES, np.uint8)
        portions = [payloads[p.item].data[p.start : p.start + p.length] for p in run.portions]
        return np.concatenate(portions, out=own.memory[: run.length])

    for_each(write, even_runs((payload.data.size for payload in payloads), RUN_BYTES), threads)
    entries = tuple(_entry(payload, offsets[i], checksums.of(i)) for i, payload in enumerate(payloads))
    return entries, offsets[-1]


def _check(payload: Payload) -> None:
    data = payload.data
    try:
        dtype = dtype_of(payload.dtype)
        check_size(dtype, held_shape(payload.shape, payload.part), data.size)
    except ValueError as error:
        raise ValueError(f"{payload.name}: {error}") from error
    if data.dtype != np.uint8 or data.ndim != 1 or not data.flags.c_contiguous:
        raise ValueError(f"{payload.name}: its bytes are not one contiguous array of uint8")
    if dtype.variable_length != (payload.crc32c is not None):
        raise ValueError(f"{payload.name}: a checksum must come with strings and variants, and with nothing else")


def _entry(payload: Payload, offset: int, computed: int) -> Entry:
    crc = computed if payload.crc32c is None else payload.crc32c
    return Entry(payload.name, payload.dtype, payload.shape, offset, payload.data.size, crc, payload.part)
