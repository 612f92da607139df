"""Is this checkpoint what was written? Every checksum is compared, in little memory, without TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, islice

import numpy as np
from numpy.typing import NDArray

from distckpt.bundle.byte_stream import ByteStream
from distckpt.bundle.checksum import crc32c
from distckpt.bundle.coverage import find_defects
from distckpt.bundle.dtypes import VARIABLE_LENGTH
from distckpt.bundle.index import Index, decode_index
from distckpt.bundle.index_file import read_index_file
from distckpt.bundle.kept import KeptTensors, can_be_kept
from distckpt.bundle.names import data_file, index_file
from distckpt.bundle.parallel import for_each
from distckpt.bundle.runs import Checksums, Portion, Run, plan_runs
from distckpt.bundle.slices import describe, held_shape
from distckpt.bundle.strings import checksum_elements
from distckpt.errors import CorruptCheckpoint, ObjectMissing
from distckpt.model import Entry
from distckpt.storage.interface import Readable

_READ_BYTES = 1 << 20
"""Read in one go: what was read is still in the processor's cache when it is summed."""
_PLACED_BYTES = 4 << 20
"""Read in one go straight to the tensors' places: it takes no other memory, and few steps of Python."""
_TOGETHER_BYTES = 8 << 20
"""Read by one thread, one after the other: two threads that touch one new huge page would both fill it with zeros."""
_ENTRY_COST_BYTES = 64
MISSING = "it is missing"
_MISMATCH = "the checksum does not match"


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """What is wrong with `file`; `tensor` is empty where it is not about one."""

    file: str
    tensor: str
    detail: str

    def __str__(self) -> str:
        return f"{self.file}: {self.tensor + ': ' if self.tensor else ''}{self.detail}"


def verify(storage: Readable, name: str, *, part: int = 0, parts: int = 1, threads: int = 2) -> list[Fault]:
    """What is wrong with the checkpoint whose prefix is `name`, sorted; empty if nothing is.

    The index and the data files' sizes are always checked; then, if the index is sound, the `part`-th of `parts` about
    equal parts of the tensors' bytes, the same for all who ask. Bytes of a data file that belong to no tensor are
    allowed: TensorFlow ignores them. Raises StorageError where the storage failed, never because of what it holds.
    """
    index, faults = read_index(storage, name)
    return faults if index is None else verify_tensors(storage, name, index, part, parts, threads)


def read_index(storage: Readable, name: str) -> tuple[Index | None, list[Fault]]:
    """The index of the checkpoint, if it is sound; else None, and what is wrong with it, sorted."""
    path = index_file(name)
    try:
        index = decode_index(read_index_file(storage, path), path)
    except ObjectMissing:
        return None, [Fault(path, "", MISSING)]
    except CorruptCheckpoint as error:
        return None, [Fault(path, "", error.detail)]
    if defects := [Fault(path, defect.tensor, defect.detail) for defect in find_defects(index.shards.values())]:
        return None, sorted(defects)
    return index, []


def verify_tensors(
    storage: Readable, name: str, index: Index, part: int, parts: int, threads: int, kept: KeptTensors | None = None
) -> list[Fault]:
    """What is wrong with the data files, as in `verify`. What is right, and can be kept, goes to `kept`."""
    faults, readable = _look_at_files(storage, name, index)
    if faults:
        kept = None  # a tensor may reach far beyond what is there of it, and nothing of this is restored
    own = {
        data_file(name, shard, index.num_shards): entries
        for shard, entries in entries_of(readable, part, parts).items()
    }
    return sorted({*faults, *check_entries(storage, own, threads, kept)})


def check_entries(
    storage: Readable, entries: Mapping[str, Iterable[Entry]], threads: int, kept: KeptTensors | None
) -> list[Fault]:
    """Compares the checksums of `entries`, by data file, each file's by offset, and keeps what is right."""
    files = [_File(storage, path, its, kept) for path, its in entries.items()]
    for_each(lambda check: check(), (check for file in files for check in file.checks()), threads)
    return [fault for file in files for fault in file.faults()]


def _look_at_files(storage: Readable, name: str, index: Index) -> tuple[list[Fault], dict[int, list[Entry]]]:
    """What is wrong with files as a whole, and by shard the entries that are within their file: those can be read."""
    faults = []
    readable = {}
    for shard, entries in index.shards.items():
        path = data_file(name, shard, index.num_shards)
        try:
            size = storage.size(path)
        except ObjectMissing:
            faults.append(Fault(path, "", MISSING))
            continue
        readable[shard] = [entry for entry in entries if entry.offset + entry.size_bytes <= size]
        if beyond := len(entries) - len(readable[shard]):
            faults.append(Fault(path, "", f"it is cut short: {beyond} tensors reach beyond its {size} bytes"))
    return faults, readable


def entries_of(shards: Mapping[int, Sequence[Entry]], part: int, parts: int) -> Mapping[int, Sequence[Entry]]:
    """Cuts all entries, in the order of shards and offsets, into `parts` of about equal bytes: the `part`-th."""
    if parts == 1:
        return shards
    located = [(shard, entry) for shard in sorted(shards) for entry in shards[shard]]
    total = sum(entry.size_bytes + _ENTRY_COST_BYTES for _, entry in located)
    own: dict[int, list[Entry]] = {}
    before = 0
    for shard, entry in located:
        cost = entry.size_bytes + _ENTRY_COST_BYTES
        if (before + cost // 2) * parts // total == part:
            own.setdefault(shard, []).append(entry)
        before += cost
    return own


class _File:
    """The check of tensors of one data file: run all of `checks`, on any threads, then ask for `faults`."""

    def __init__(self, storage: Readable, path: str, entries: Iterable[Entry], kept: KeptTensors | None) -> None:
        self._kept = kept
        self._rooms: list[NDArray[np.uint8] | None] = []
        self._storage = storage
        self._path = path
        self._fixed: list[Entry] = []
        self._variable: list[Entry] = []
        for entry in entries:
            (self._variable if entry.dtype in VARIABLE_LENGTH else self._fixed).append(entry)
        if kept is not None:
            self._rooms = [kept.room(entry) if can_be_kept(entry) else None for entry in self._fixed]
        self._checksums = Checksums(entry.size_bytes for entry in self._fixed)
        self._faults: list[Fault] = []

    def checks(self) -> Iterator[Callable[[], None]]:
        placed = bool(self._rooms) and all(room is not None for room in self._rooms)
        run_bytes = _PLACED_BYTES if placed else _READ_BYTES
        runs = plan_runs(((entry.offset, entry.size_bytes) for entry in self._fixed), run_bytes)
        while together := list(islice(runs, _TOGETHER_BYTES // run_bytes)):
            yield partial(self._sum_all, together)
        for entry in self._variable:
            yield partial(self._check_elements, entry)

    def faults(self) -> list[Fault]:
        for item, entry in enumerate(self._fixed):
            if self._checksums.of(item) != entry.crc32c:
                self._fault(entry, _MISMATCH)
            elif self._kept is not None and self._rooms[item] is not None:
                self._kept.keep(entry)
        return self._faults

    def _sum_all(self, runs: Iterable[Run]) -> None:
        for run in runs:
            self._sum(run)

    def _sum(self, run: Run) -> None:
        rooms = [self._room(portion) for portion in run.portions] if self._rooms else []
        placed = [room for room in rooms if room is not None]
        if len(placed) == len(run.portions):
            self._add(run, placed, self._fill(placed, run.offset))
            return
        data = np.frombuffer(self._read(run.offset, run.length), np.uint8)
        ends = accumulate(portion.length for portion in run.portions)
        pieces = [data[end - portion.length : end] for portion, end in zip(run.portions, ends, strict=True)]
        self._add(run, pieces, data.size)
        for room, piece in zip(rooms, pieces, strict=False):  # no rooms where nothing is kept
            if room is not None:
                room[: piece.size] = piece

    def _room(self, portion: Portion) -> NDArray[np.uint8] | None:
        room = self._rooms[portion.item]
        return None if room is None else room[portion.start : portion.start + portion.length]

    def _add(self, run: Run, pieces: Iterable[NDArray[np.uint8]], left: int) -> None:
        """Sums what was read of each portion: of the last ones nothing, where the file is short."""
        for portion, piece in zip(run.portions, pieces, strict=True):
            self._checksums.add(portion, crc32c(piece[: max(0, left)] if left < portion.length else piece))
            left -= portion.length

    def _check_elements(self, entry: Entry) -> None:
        def fetch(offset: int, length: int) -> bytes:
            return self._read(entry.offset + offset, length)

        count = math.prod(held_shape(entry.shape, entry.part))
        try:
            crc = checksum_elements(ByteStream(fetch, entry.size_bytes, _READ_BYTES), entry.dtype, count)
        except ValueError as error:
            self._fault(entry, str(error))
        else:
            if crc != entry.crc32c:
                self._fault(entry, _MISMATCH)

    def _read(self, offset: int, length: int) -> bytes:
        """Fewer bytes where the file is short or missing: the checksums will tell of which tensors."""
        try:
            return self._storage.read_at(self._path, offset, length)
        except ObjectMissing:
            return b""

    def _fill(self, rooms: Sequence[NDArray[np.uint8]], offset: int) -> int:
        """As `_read`, without a copy: how many bytes there were."""
        try:
            return self._storage.read_into(self._path, offset, rooms)
        except ObjectMissing:
            return 0

    def _fault(self, entry: Entry, detail: str) -> None:
        place = f"the slice {describe(entry.part)}: " if entry.part else ""
        self._faults.append(Fault(self._path, entry.name, place + detail))
