"""The parts of a checkpoint that workers read apart, as streams of bytes, so that they can be exchanged.

Part i is what worker i verified (`Loader.verify(i, parts)`), in the order of the index, without what cannot be kept.
All workers have the same index, so all agree on what stands where.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray


class PartStream:
    """The bytes of `rooms`, one after the other."""

    def __init__(self, rooms: Sequence[NDArray[np.uint8]]) -> None:
        self._rooms = [room for room in rooms if room.size]
        self._begins = list(itertools.accumulate((room.size for room in self._rooms), initial=0))

    @property
    def size_bytes(self) -> int:
        return self._begins[-1]

    def read(self, start: int, into: NDArray[np.uint8]) -> None:
        """Copies bytes from `start` on into the beginning of `into`; fewer where the stream ends."""
        for room, position in self._spans(start, into.size):
            into[position : position + room.size] = room

    def write(self, start: int, data: NDArray[np.uint8]) -> None:
        """The inverse; what is beyond the stream's end is ignored."""
        for room, position in self._spans(start, data.size):
            room[:] = data[position : position + room.size]

    def _spans(self, start: int, length: int) -> Iterator[tuple[NDArray[np.uint8], int]]:
        """The pieces of rooms that `[start, start + length)` touches, and how far from `start` each begins."""
        number = bisect_right(self._begins, start) - 1
        at, end = start, min(start + length, self.size_bytes)
        while at < end:
            begin = self._begins[number]
            piece = self._rooms[number][at - begin : end - begin]
            yield piece, at - start
            at += piece.size
            number += 1
