"""Tensors put together from what was read of them, so that a checkpoint that is verified is not read a second time.

Every tensor has its own part of memory, aligned as TensorFlow wants it: it can be given away without a copy. Many lie
in one mapping of huge pages, which is given back to the system when the last of them is gone: page by page, the first
touch of memory takes longer than reading a file from the page cache into it.
"""

from __future__ import annotations

import mmap
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from distckpt.bundle.dtypes import VARIABLE_LENGTH
from distckpt.bundle.slices import is_rows
from distckpt.model import Entry

ALIGNMENT = 64
"""What TensorFlow asks of a tensor's memory (EIGEN_MAX_ALIGN_BYTES with AVX-512); else it aborts the process."""


_HUGE_PAGE_BYTES = 2 << 20
_MAPPING_MAX_BYTES = 64 << 20
_OWN_MAPPING_BYTES = 16 << 20
"""What a tensor has at least that gets a mapping of its own."""


def can_be_kept(entry: Entry) -> bool:
    """Whether its bytes lie together in the whole tensor: no slice across rows, no elements of variable length."""
    return entry.dtype not in VARIABLE_LENGTH and (entry.part is None or is_rows(entry.part, entry.shape))


class KeptTensors:
    """`room` before an entry is read, `keep` once its checksum was found right, `take` when all of a tensor is there.

    `room` is called by one thread at a time; the rooms may be filled by any.
    """

    def __init__(self) -> None:
        self._memory = Memory()
        self._buffers: dict[str, NDArray[np.uint8]] = {}
        self._kept: dict[str, set[Entry]] = {}

    def room(self, entry: Entry) -> NDArray[np.uint8]:
        """Where the bytes of `entry`, which `can_be_kept`, belong."""
        row_bytes = entry.size_bytes if entry.part is None else entry.size_bytes // entry.part[0].length
        if entry.name not in self._buffers:
            self._buffers[entry.name] = self._memory.room(
                row_bytes if entry.part is None else row_bytes * entry.shape[0]
            )
        start = 0 if entry.part is None else entry.part[0].start * row_bytes
        return self._buffers[entry.name][start : start + entry.size_bytes]

    def keep(self, entry: Entry) -> None:
        self._kept.setdefault(entry.name, set()).add(entry)

    def has(self, entry: Entry) -> bool:
        return entry in self._kept.get(entry.name, ())

    def take(self, tensor: str) -> NDArray[np.uint8]:
        """All bytes of a tensor whose entries were all kept; they are the caller's from here on."""
        del self._kept[tensor]
        return self._buffers.pop(tensor)


class Memory:
    """`room` gives memory with any content that begins at a multiple of ALIGNMENT; for one thread at a time.

    It is in mappings that grow with what is asked for, from 2 to 64 MiB; OSError where there is no more.
    """

    def __init__(self) -> None:
        self._free = np.empty(0, np.uint8)
        self._mapping_bytes = _HUGE_PAGE_BYTES

    def room(self, size_bytes: int) -> NDArray[np.uint8]:
        if size_bytes >= _OWN_MAPPING_BYTES:
            return _mapped(size_bytes)
        if size_bytes >= self._free.size:
            self._mapping_bytes = min(2 * max(self._mapping_bytes, size_bytes), _MAPPING_MAX_BYTES)
            self._free = _mapped(self._mapping_bytes)
        room = self._free[:size_bytes]
        self._free = self._free[-(-size_bytes // ALIGNMENT) * ALIGNMENT :]
        return room


def _mapped(size_bytes: int) -> NDArray[np.uint8]:
    """Fresh memory that begins with a huge page."""
    mapping = mmap.mmap(-1, size_bytes + _HUGE_PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel without huge pages
        mapping.madvise(mmap.MADV_HUGEPAGE)
    memory = np.frombuffer(mapping, np.uint8)
    start = -memory.ctypes.data % _HUGE_PAGE_BYTES
    return memory[start : start + size_bytes]
