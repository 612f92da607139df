"""Ranges of a data file that are read or written in one go: many small tensors together, a large one in chunks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from distckpt.bundle.checksum import combine


class Portion(NamedTuple):
    """Bytes `[start, start + length)` of tensor number `item`. Cheap to make: each tensor has one or more."""

    item: int
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Run:
    """`portions`, in order and without gaps, from `offset` in the file."""

    offset: int
    portions: tuple[Portion, ...]

    @property
    def length(self) -> int:
        return sum(portion.length for portion in self.portions)


def plan_runs(spans: Iterable[tuple[int, int]], run_bytes: int) -> Iterator[Run]:
    """Runs of at most `run_bytes` that cover all spans: the (offset, size) of tensor 0, 1, ..., by offset."""
    pending: list[Portion] = []
    begin = end = 0
    for item, (offset, size) in enumerate(spans):
        if pending and (offset != end or end - begin + size > run_bytes):
            yield Run(begin, tuple(pending))
            pending = []
        if size > run_bytes:
            for start in range(0, size, run_bytes):
                yield Run(offset + start, (Portion(item, start, min(run_bytes, size - start)),))
        elif size:
            begin = begin if pending else offset
            end = offset + size
            pending.append(Portion(item, 0, size))
    if pending:
        yield Run(begin, tuple(pending))


def even_runs(sizes: Iterable[int], run_bytes: int) -> Iterator[Run]:
    """Runs of exactly `run_bytes`, but for the last, that cover tensors of these sizes that lie end to end from 0."""
    pending: list[Portion] = []
    begin = end = 0
    for item, size in enumerate(sizes):
        start = 0
        while start < size:
            length = min(size - start, begin + run_bytes - end)
            pending.append(Portion(item, start, length))
            start += length
            end += length
            if end - begin == run_bytes:
                yield Run(begin, tuple(pending))
                pending, begin = [], end
    if pending:
        yield Run(begin, tuple(pending))


class Checksums:
    """The checksums of tensors of these `sizes`, whose portions are summed in any order, by any thread."""

    def __init__(self, sizes: Iterable[int]) -> None:
        self._sizes = list(sizes)
        self._whole = [0] * len(self._sizes)  # of most tensors there is one portion: no list for each
        self._parts: dict[int, list[tuple[int, int, int]]] = {}

    def add(self, portion: Portion, crc: int) -> None:
        item, start, length = portion
        if length == self._sizes[item]:
            self._whole[item] = crc
        else:
            self._parts.setdefault(item, []).append((start, length, crc))

    def of(self, item: int) -> int:
        """To be asked when all portions of the tensor were added."""
        total = self._whole[item]
        for start, length, crc in sorted(self._parts.get(item, ())):
            total = combine(total, crc, length) if start else crc
        return total
