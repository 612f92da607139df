"""Tensors put together from what was read of them, so that a checkpoint that is verified is not read a second time.

Every tensor has memory of its own, aligned as TensorFlow wants it: it can be given away without a copy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distckpt.bundle.dtypes import dtype_of
from distckpt.bundle.slices import is_rows
from distckpt.model import Entry

ALIGNMENT = 64
"""What TensorFlow asks of a tensor's memory (EIGEN_MAX_ALIGN_BYTES with AVX-512); else it aborts the process."""


def can_be_kept(entry: Entry) -> bool:
    """Whether its bytes lie together in the whole tensor: no slice across rows, no elements of variable length."""
    return not dtype_of(entry.dtype).variable_length and (entry.part is None or is_rows(entry.part, entry.shape))


class KeptTensors:
    """`room` before an entry is read, `keep` once its checksum was found right, `take` when all of a tensor is there.

    `room` is called by one thread at a time; the rooms may be filled by any.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, NDArray[np.uint8]] = {}
        self._kept: dict[str, set[Entry]] = {}

    def room(self, entry: Entry) -> NDArray[np.uint8]:
        """Where the bytes of `entry`, which `can_be_kept`, belong."""
        row_bytes = entry.size_bytes if entry.part is None else entry.size_bytes // entry.part[0].length
        if entry.name not in self._buffers:
            self._buffers[entry.name] = aligned(row_bytes if entry.part is None else row_bytes * entry.shape[0])
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


def aligned(size_bytes: int) -> NDArray[np.uint8]:
    """Memory with any content that begins at a multiple of ALIGNMENT."""
    memory = np.empty(size_bytes + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size_bytes]
