"""Are these entries a whole checkpoint? TensorFlow would find out at restore, or never: a writer checks before.

Slices of a tensor cover it exactly if and only if the corners of the slices, signed, add up to those of the whole: the
sum of the slices' indicator functions is determined by its mixed differences, which are non-zero at corners only. In n
cut dimensions that takes 2**n steps a slice, whatever their number and order, and the first corner left over is where
the first gap or overlap begins.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

from distckpt.bundle.slices import is_whole
from distckpt.model import Entry, Extent, Slice, TensorSpec

_CUT_AXES_MAX = 6


@dataclass(frozen=True, slots=True)
class Defect:
    """What is wrong with `tensor`."""

    tensor: str
    detail: str

    def __str__(self) -> str:
        return f"{self.tensor}: {self.detail}"


def check_coverage(shards: Sequence[Sequence[Entry]], expected: Iterable[TensorSpec] | None = None) -> None:
    """Raises ValueError, naming the first tensor, unless the entries are complete (see `find_defects`).

    `expected`: the tensors that there must be, with their types and shapes; there may be others, which only one worker
    has. None: unknown.
    """
    differences = () if expected is None else _differences(shards, expected)
    for defect in itertools.chain(differences, find_defects(shards)):
        raise ValueError(str(defect))


def find_defects(shards: Iterable[Sequence[Entry]]) -> Iterator[Defect]:
    """Each tensor must be there whole once, or in slices that cover it; no two entries may share a byte of a file."""
    firsts: dict[str, Entry] = {}
    parts: dict[str, list[Entry]] = {}  # of all tensors but those that are there once and whole, which are most
    for shard in shards:
        yield from _shared_bytes(shard)
        for entry in shard:
            if entry.name in firsts:
                parts.setdefault(entry.name, [firsts[entry.name]]).append(entry)
                continue
            firsts[entry.name] = entry
            if entry.part is not None:
                parts[entry.name] = [entry]
    for name, entries in parts.items():
        if detail := _incomplete(entries):
            yield Defect(name, detail)


def _shared_bytes(shard: Sequence[Entry]) -> Iterator[Defect]:
    filled = sorted((entry for entry in shard if entry.size_bytes), key=attrgetter("offset"))
    for before, entry in itertools.pairwise(filled):
        if entry.offset < before.offset + before.size_bytes:
            yield Defect(entry.name, f"its bytes at {entry.offset} are also those of {before.name}")


def _incomplete(entries: list[Entry]) -> str | None:
    first = entries[0]
    if any(entry.part is not None and len(entry.part) != len(entry.shape) for entry in entries):
        return "it has a slice of another rank"
    if len(entries) == 1 and is_whole(first.part, first.shape):
        return None
    if any((entry.dtype, entry.shape) != (first.dtype, first.shape) for entry in entries):
        return "its slices are of different types or shapes"
    parts = [entry.part for entry in entries if entry.part is not None and not is_whole(entry.part, entry.shape)]
    if len(parts) < len(entries):
        return "it is there whole, and once more"
    return _uncovered(parts, first.shape)


def _uncovered(parts: list[Slice], shape: tuple[int, ...]) -> str | None:
    """Where the slices first leave a gap or overlap, None if they cover the shape exactly."""
    whole = tuple(Extent(0, dim) for dim in shape)
    cut = [axis for axis, dim in enumerate(whole) if any(part[axis] != dim for part in parts)]
    if len(cut) > _CUT_AXES_MAX:
        return f"it is cut along {len(cut)} axes, more than the {_CUT_AXES_MAX} that can be checked"
    corners = _corners(whole, cut, -1)
    for part in parts:
        corners.update(_corners(part, cut, 1))
    first = min((corner for corner, count in corners.items() if count), default=None)
    if first is None:
        return None
    point = dict(zip(cut, first, strict=True))
    where = [point.get(axis, 0) for axis in range(len(shape))]
    return f"its slices {'overlap' if corners[first] > 0 else 'leave a gap'} at {where}"


def _corners(box: Slice, axes: list[int], sign: int) -> Counter[tuple[int, ...]]:
    corners: Counter[tuple[int, ...]] = Counter()
    for choice in itertools.product(*(((box[axis].start, 1), (box[axis].end, -1)) for axis in axes)):
        weight = sign
        for _, side in choice:
            weight *= side
        corners[tuple(at for at, _ in choice)] += weight
    return corners


def _differences(shards: Sequence[Sequence[Entry]], expected: Iterable[TensorSpec]) -> Iterator[Defect]:
    """How what is there falls short of what must be: names, types, shapes. Parts of one tensor share its name."""
    wanted = {spec.name: (spec.dtype, spec.shape) for spec in expected}
    present = {entry.name: (entry.dtype, entry.shape) for shard in shards for entry in shard}
    for name in sorted(wanted.keys() - present.keys()):
        yield Defect(name, "it is missing")
    for name in sorted(wanted.keys() & present.keys()):
        if wanted[name] != present[name]:
            yield Defect(name, f"it is of type and shape {present[name]}, not {wanted[name]}")
