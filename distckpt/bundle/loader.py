"""Reads a checkpoint that is being restored: each byte once, each compared with its checksum before it is given out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from distckpt.bundle.coverage import find_defects
from distckpt.bundle.index import Index, decode_index
from distckpt.bundle.kept import KeptTensors, can_be_kept
from distckpt.bundle.names import data_file, index_file
from distckpt.bundle.payload import Payload
from distckpt.bundle.verify import Fault, check_entries, verify
from distckpt.errors import CorruptCheckpoint
from distckpt.model import Entry
from distckpt.storage.interface import Storage


class Loader:
    """The checkpoint with the prefix `name`, for one restore. It holds what it has verified until that is taken."""

    def __init__(self, storage: Storage, name: str, threads: int) -> None:
        self._storage = storage
        self._name = name
        self._threads = threads
        self._kept = KeptTensors()
        self._located: Mapping[str, list[tuple[str, Entry]]] | None = None

    def verify(self, part: int, parts: int) -> list[Fault]:
        """See `bundle.verify.verify`. What was read is kept."""
        return verify(self._storage, self._name, part=part, parts=parts, threads=self._threads, kept=self._kept)

    def take(self, tensors: Iterable[str]) -> list[Payload]:
        """Each of `tensors` as a whole, in memory aligned to `kept.ALIGNMENT` that is the caller's own from here on.

        Left out is what the checkpoint does not have, and what cannot be kept: strings, variants, and slices that are
        no rows. Raises CorruptCheckpoint where a checksum does not match, ObjectMissing, StorageError.
        """
        located = self._entries()
        wanted = [name for name in dict.fromkeys(tensors) if self._can_give(located.get(name))]
        missing: dict[str, list[Entry]] = {}
        for name in wanted:
            for path, entry in located[name]:
                if not self._kept.has(entry):
                    missing.setdefault(path, []).append(entry)
        for path, unsorted in missing.items():
            unsorted.sort(key=lambda entry: entry.offset)
            if self._storage.size(path) < max(entry.offset + entry.size_bytes for entry in unsorted):
                raise CorruptCheckpoint(path, "it is cut short")  # before there is room made for what is not there
        for fault in check_entries(self._storage, missing, self._threads, self._kept):
            raise CorruptCheckpoint(fault.file, f"{fault.tensor}: {fault.detail}")
        entries = [located[name][0][1] for name in wanted]
        return [Payload(each.name, each.dtype, each.shape, self._kept.take(each.name)) for each in entries]

    def _entries(self) -> Mapping[str, list[tuple[str, Entry]]]:
        if self._located is None:
            path = index_file(self._name)
            index = decode_index(self._storage.read(path), path)
            for defect in find_defects(index.shards.values()):
                raise CorruptCheckpoint(path, str(defect))
            self._located = _located(index, self._name)
        return self._located

    @staticmethod
    def _can_give(located: list[tuple[str, Entry]] | None) -> bool:
        return located is not None and all(can_be_kept(entry) for _, entry in located)


def _located(index: Index, name: str) -> dict[str, list[tuple[str, Entry]]]:
    tensors: dict[str, list[tuple[str, Entry]]] = {}
    for shard, entries in index.shards.items():
        path = data_file(name, shard, index.num_shards)
        for entry in entries:
            tensors.setdefault(entry.name, []).append((path, entry))
    return tensors
