"""Who writes what: a pure function of the tensors and the workers, the same on every worker without talking.

Whole tensors go to the least loaded worker, largest first. Only a divisible tensor that is larger than a fair share is
cut, along its first axis, and then into as few slices as keep the balance: TensorFlow reads a sliced tensor 4 to 8
times slower than a whole one. All arithmetic is of integers, and every tie is broken by name and index, so that no two
workers can come to different plans.

A worker of twice the weight is loaded with twice the bytes (`speeds`): loads are compared as load / weight, brought to
one denominator. With equal weights that is the load itself.

Shares are numbered. Share i is worker i's, as far as there are workers; a share whose writer died, hangs or failed is
given up and split, piece by piece and by the same rules, into new shares of others, which take the next numbers.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Mapping, Sequence
from math import lcm
from typing import NamedTuple

from distckpt.model import Extent, Piece, Share, Split, TensorSpec

SLACK_PERCENT = 2  # how far above a fair share a worker may come if that saves a slice

_DTYPES = {
    1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 7: "string", 8: "complex64",
    9: "int64", 10: "bool", 14: "bfloat16", 17: "uint16", 18: "complex128", 19: "float16", 21: "variant",
    22: "uint32", 23: "uint64",
}  # fmt: skip
"""TensorFlow's DataType numbers (types.proto), for messages."""

_Key = tuple[str, tuple[tuple[int, int], ...]]


class _Unit(NamedTuple):
    """All that is written under one name, one tensor or all parts of one. Sorts largest first, then by name."""

    minus_bytes: int
    name: str
    rows: int
    """How many rows it may be cut into; 1: it may not."""

    @property
    def size_bytes(self) -> int:
        return -self.minus_bytes


def plan(
    specs: Sequence[TensorSpec],
    own_bytes: Sequence[int],
    splits: Sequence[Split] = (),
    weights: Sequence[int] = (),
) -> tuple[Share, ...]:
    """One share per worker, then those of each split, by number: a share that is split holds what its parts hold.

    Without what is split, or without the parts, every tensor of `specs` is there exactly once, and the load as even as
    it can be. `specs` are the replicated tensors, in any order; `own_bytes[i]` is what only worker i writes, counted
    first. `weights[i]`, at least 1, is how much of the load worker i takes; empty: all take the same. The parts of a
    larger tensor (specs of one name with `part`) stay together: the piece of that name stands for all of them. Raises
    ValueError if two specs are the same thing, or there is no worker.
    """
    weights = weights or (1,) * len(own_bytes)
    shares = [Share(worker, pieces) for worker, pieces in enumerate(_spread(specs, own_bytes, weights))]
    rows = {spec.name: spec.shape[0] if spec.divisible else 1 for spec in specs}
    for split in splits:
        parts = _spread_again(shares[split.share].pieces, rows, [weights[writer] for writer in split.writers])
        shares += [Share(worker, pieces) for worker, pieces in zip(split.writers, parts, strict=True)]
    return tuple(shares)


def writers_of(workers: int, splits: Sequence[Split]) -> tuple[int, ...]:
    """Who writes each share of such a plan, by its number."""
    return (*range(workers), *(writer for split in splits for writer in split.writers))


def _spread_again(pieces: Sequence[Piece], rows: Mapping[str, int], weights: Sequence[int]) -> list[tuple[Piece, ...]]:
    """Spreads what was one worker's over others of `weights`; `rows`: how many each whole tensor may be cut into."""
    given_up = {piece.tensor: piece for piece in pieces}
    lengths = {piece.tensor: rows[piece.tensor] if piece.rows is None else piece.rows.length for piece in pieces}
    specs = [
        TensorSpec(name, 0, (lengths[name],), piece.size_bytes, divisible=True) for name, piece in given_up.items()
    ]
    parts = _spread(specs, [0] * len(weights), weights)
    return [tuple(_within(given_up[part.tensor], part) for part in own) for own in parts]


def _within(whole: Piece, part: Piece) -> Piece:
    """`part`, whose rows count from the first row of `whole`, with rows that count from the tensor's first."""
    if part.rows is None or whole.rows is None:
        return Piece(part.tensor, part.size_bytes, whole.rows if part.rows is None else part.rows)
    return Piece(part.tensor, part.size_bytes, Extent(whole.rows.start + part.rows.start, part.rows.length))


def _spread(specs: Sequence[TensorSpec], own_bytes: Sequence[int], weights: Sequence[int]) -> list[tuple[Piece, ...]]:
    """The pieces of each worker."""
    units = _units(specs)
    loads = _Loads(own_bytes, weights)
    total = sum(own_bytes) + sum(unit.size_bytes for unit in units)
    pieces: list[list[Piece]] = [[] for _ in own_bytes]
    to_cut = [unit for unit in units if unit.rows > 1 and unit.size_bytes * len(own_bytes) > total]
    cut_names = {unit.name for unit in to_cut}
    _place_whole([unit for unit in units if unit.name not in cut_names], loads, pieces)
    for unit in to_cut:
        _place_rows(unit, _rows_each(unit, loads, total), loads, pieces)
    return [tuple(sorted(own, key=_piece_key)) for own in pieces]


class _Loads:
    """What each worker has to write so far, in bytes. `times[i]` turns worker i's bytes into the time that it takes for
    them, in a unit that makes all of them whole numbers.
    """

    def __init__(self, own_bytes: Sequence[int], weights: Sequence[int]) -> None:
        if not own_bytes:
            raise ValueError("a plan needs at least one worker")
        if len(weights) != len(own_bytes) or min(weights) < 1:
            raise ValueError(f"weights {tuple(weights)} of {len(own_bytes)} workers: one for each, at least 1")
        self.bytes = list(own_bytes)
        self.weights = weights
        one = lcm(*set(weights))
        self.times = [one // weight for weight in weights]

    def by_time(self) -> list[int]:
        """The workers, whoever is done first before the others."""
        return sorted(range(len(self.bytes)), key=lambda w: (self.bytes[w] * self.times[w], self.times[w], w))


def _units(specs: Sequence[TensorSpec]) -> list[_Unit]:
    """Largest first, then by name."""
    sizes: dict[str, int] = {}
    rows: dict[str, int] = {}
    parts: set[_Key] = set()
    for spec in specs:
        name = spec.name
        if spec.part is None:
            if name in sizes:
                raise ValueError(f"tensor {name} is there twice")
            sizes[name] = spec.size_bytes
            rows[name] = spec.shape[0] if spec.divisible else 1
            continue
        if _key(spec) in parts or name in rows:
            raise ValueError(f"tensor {name} is there twice")
        parts.add(_key(spec))
        sizes[name] = sizes.get(name, 0) + spec.size_bytes
    return sorted(_Unit(-size, name, rows.get(name, 1)) for name, size in sizes.items())


def _place_whole(units: Sequence[_Unit], loads: _Loads, pieces: list[list[Piece]]) -> None:
    """Each to whoever would be done with it first. Workers of one weight share a heap: there are few weights."""
    heaps: dict[int, list[tuple[int, int]]] = {}
    for worker, load in enumerate(loads.bytes):
        heaps.setdefault(loads.times[worker], []).append((load, worker))
    for heap in heaps.values():
        heapq.heapify(heap)
    for unit in units:
        time = min(heaps, key=lambda time: ((heaps[time][0][0] + unit.size_bytes) * time, time))
        load, worker = heaps[time][0]
        heapq.heapreplace(heaps[time], (load + unit.size_bytes, worker))
        pieces[worker].append(Piece(unit.name, unit.size_bytes))
    for load, worker in (pair for heap in heaps.values() for pair in heap):
        loads.bytes[worker] = load


def _rows_each(unit: _Unit, loads: _Loads, total: int) -> dict[int, int]:
    """How many rows of `unit` each worker takes: the fewest workers that keep the balance, filled up evenly."""
    row_bytes = unit.size_bytes // unit.rows
    all_weights = sum(loads.weights)
    filled, weight = unit.size_bytes, 0
    chosen: list[int] = []
    for worker in loads.by_time():
        even = bool(chosen) and filled * 100 * all_weights <= total * (100 + SLACK_PERCENT) * weight
        if even or (chosen and loads.bytes[worker] * weight >= filled * loads.weights[worker]):
            break
        filled += loads.bytes[worker]
        weight += loads.weights[worker]
        chosen.append(worker)
    levels = {worker: filled * loads.weights[worker] // weight for worker in chosen}
    rows = {worker: max(0, levels[worker] - loads.bytes[worker]) // row_bytes for worker in chosen}
    heap = [((loads.bytes[w] + (rows[w] + 1) * row_bytes) * loads.times[w], w) for w in chosen]
    heapq.heapify(heap)
    for _ in range(unit.rows - sum(rows.values())):
        time, worker = heap[0]
        heapq.heapreplace(heap, (time + row_bytes * loads.times[worker], worker))
        rows[worker] += 1
    return rows


def _place_rows(unit: _Unit, rows: dict[int, int], loads: _Loads, pieces: list[list[Piece]]) -> None:
    row_bytes = unit.size_bytes // unit.rows
    start = 0
    for worker in sorted(worker for worker, count in rows.items() if count):
        size_bytes = rows[worker] * row_bytes
        cut = None if rows[worker] == unit.rows else Extent(start, rows[worker])
        pieces[worker].append(Piece(unit.name, size_bytes, cut))
        loads.bytes[worker] += size_bytes
        start += rows[worker]


def _piece_key(piece: Piece) -> tuple[str, int]:
    return piece.tensor, -1 if piece.rows is None else piece.rows.start


def _key(spec: TensorSpec) -> _Key:
    return spec.name, tuple((extent.start, extent.length) for extent in spec.part or ())


def specs_digest(specs: Sequence[TensorSpec]) -> str:
    """A digest of what must be written, in hexadecimal; the order of `specs` does not matter."""
    digest = hashlib.sha256()
    for spec in sorted(specs, key=_key):
        name, part = _key(spec)
        digest.update(repr((name, spec.dtype, spec.shape, spec.size_bytes, part, spec.divisible)).encode() + b"\n")
    return digest.hexdigest()


def first_difference(
    one: Sequence[TensorSpec], other: Sequence[TensorSpec], names: tuple[str, str] = ("the first", "the second")
) -> str:
    """Names the first tensor (by name) that is not alike in both, and how. `names`: who holds them."""
    of_one, of_other = ({_key(spec): spec for spec in specs} for specs in (one, other))
    for key in sorted(of_one.keys() | of_other.keys()):
        here, there = of_one.get(key), of_other.get(key)
        if here is None or there is None:
            has, lacks = names if there is None else reversed(names)
            return f"tensor {key[0]} is missing on {lacks} ({has} has it)"
        if here != there:
            return f"tensor {key[0]} is {_shown(here)} on {names[0]} and {_shown(there)} on {names[1]}"
    return "the tensors are the same: the digests were not made of them"


def _shown(spec: TensorSpec) -> str:
    shape = "x".join(str(length) for length in spec.shape) or "scalar"
    return f"{_DTYPES.get(spec.dtype, f'dtype {spec.dtype}')} {shape} ({spec.size_bytes} bytes)"
