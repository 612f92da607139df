"""Reads a checkpoint that is being restored: each byte once, each compared with its checksum before it is given out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from distckpt.bundle.kept import KeptTensors, can_be_kept
from distckpt.bundle.names import data_file
from distckpt.bundle.parts import PartStream
from distckpt.bundle.payload import Payload
from distckpt.bundle.reader import BundleReader
from distckpt.bundle.verify import Fault, check_entries, entries_of, read_index, verify_tensors
from distckpt.errors import CorruptCheckpoint
from distckpt.model import Entry
from distckpt.storage.interface import Readable


class Loader:
    """The checkpoint with the prefix `name`, for one restore. It holds what it has verified until that is taken."""

    def __init__(self, storage: Readable, name: str, threads: int) -> None:
        self._storage = storage
        self._name = name
        self._threads = threads
        self._kept = KeptTensors()
        self._reader: BundleReader | None = None

    def verify(self, part: int = 0, parts: int = 1) -> list[Fault]:
        """See `bundle.verify.verify`. What was read is kept."""
        index, faults = read_index(self._storage, self._name)
        if index is None:
            return faults
        self._reader = BundleReader(self._storage, self._name, index)
        return verify_tensors(self._storage, self._name, index, part, parts, self._threads, self._kept)

    def parts(self, parts: int) -> list[PartStream]:
        """What each of `parts` workers has read to verify its part, this one and the others: room for theirs is made.

        To be called once all of them have found their parts right.
        """
        shards = self._opened().index.shards
        return [
            PartStream([self._kept.room(entry) for entry in self._kept_of(shards, part, parts)])
            for part in range(parts)
        ]

    def keep_all(self, parts: int) -> None:
        """The parts of all others were filled with what they have verified."""
        for part in range(parts):
            for entry in self._kept_of(self._opened().index.shards, part, parts):
                self._kept.keep(entry)

    @staticmethod
    def _kept_of(shards: Mapping[int, Sequence[Entry]], part: int, parts: int) -> list[Entry]:
        own = entries_of(shards, part, parts)
        return [entry for shard in sorted(own) for entry in own[shard] if can_be_kept(entry)]

    def take(self, tensors: Iterable[str]) -> list[Payload]:
        """Each of `tensors` as a whole, in memory aligned to `kept.ALIGNMENT` that is the caller's own from here on.

        Left out is what the checkpoint does not have, and what cannot be kept: strings, variants, and slices that are
        no rows. Raises CorruptCheckpoint where a checksum does not match, ObjectMissing, StorageError.
        """
        index, located = self._opened().index, self._opened().tensors
        known = [name for name in dict.fromkeys(tensors) if name in located]
        wanted = [name for name in known if all(can_be_kept(entry) for _, entry in located[name])]
        missing: dict[str, list[Entry]] = {}
        for name in wanted:
            for shard, entry in located[name]:
                if not self._kept.has(entry):
                    path = data_file(self._name, shard, index.num_shards)
                    missing.setdefault(path, []).append(entry)
        for path, unsorted in missing.items():
            unsorted.sort(key=lambda entry: entry.offset)
            if self._storage.size(path) < max(entry.offset + entry.size_bytes for entry in unsorted):
                raise CorruptCheckpoint(path, "it is cut short")  # before there is room made for what is not there
        for fault in check_entries(self._storage, missing, self._threads, self._kept):
            raise CorruptCheckpoint(fault.file, f"{fault.tensor}: {fault.detail}")
        firsts = [located[name][0][1] for name in wanted]
        return [Payload(each.name, each.dtype, each.shape, self._kept.take(each.name)) for each in firsts]

    def _opened(self) -> BundleReader:
        if self._reader is None:
            self._reader = BundleReader(self._storage, self._name)
        return self._reader
