"""What has not changed since this worker's last save is not written again (`Options(link_unchanged=True)`).

A content that was the same in two saves, by its xxh3_128, goes into a file apart; later saves link that file and write
the rest (docs/decisions/0016-linked-files.md says why so, and what it costs). The digests are kept in memory: a start
of the job begins anew. For one thread; call `keep` once the files of a share are sealed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import xxhash

from distckpt.bundle.parallel import for_each
from distckpt.bundle.payload import Payload
from distckpt.errors import StorageError
from distckpt.model import NO_FILE, DataFile, Entry, Slice
from distckpt.protocol.staged import FROZEN
from distckpt.runtime.staging import discard_all
from distckpt.storage.interface import Storage

log = logging.getLogger("distckpt.runtime")

LEAST_BYTES = 1 << 20
"""For less than this a second file is not worth its fsync and its names."""

LINKED_MAX = 100
"""So many checkpoints share a file at most: damage to it does not reach further, and 100 full copies became one."""

_Key = tuple[str, int, tuple[int, ...], Slice | None]


@dataclass(frozen=True, slots=True)
class Sorted:
    """A share: what stands in `linked`, what is written into a file apart, and the rest. `digests`: of all of it."""

    linked: DataFile | None
    apart: list[Payload]
    rest: list[Payload]
    digests: Mapping[_Key, bytes] = field(default_factory=dict)


def stage(
    parts: Sorted, name: str, storage: Storage, write: Callable[[str, Sequence[Payload]], DataFile]
) -> tuple[DataFile, DataFile | None]:
    """Has `write` stage what is to be written, as `name` and as the file apart. Returns the file of the rest, and that
    apart. Raises what `write` raises; then nothing is left.
    """
    frozen, rest = parts.linked, NO_FILE
    try:
        if parts.apart:
            frozen = write(name + FROZEN, parts.apart)
        if parts.rest:
            rest = write(name, parts.rest)
    except BaseException:
        discard_all(storage, [] if frozen is None else [frozen.handle])
        raise
    return rest, frozen


@dataclass(slots=True)
class _Frozen:
    """The file apart under its newest handle, and the checkpoints that have it."""

    file: DataFile
    digests: dict[_Key, bytes]
    names: set[str] = field(default_factory=set)


class Unchanged:
    """What this worker knows of the share that it wrote last."""

    def __init__(self, storage: Storage, generation: int, threads: int) -> None:
        self._storage = storage
        self._generation = generation
        self._threads = threads
        self._digests: dict[_Key, bytes] = {}
        self._frozen: _Frozen | None = None

    def sort(self, payloads: Sequence[Payload], checkpoint: str, name: str) -> Sorted:
        """Sorts the share of `checkpoint`, and links what can be linked, as the staged file `name`."""
        before, self._digests = self._digests, self._digest_all(payloads)
        same = [payload for payload in payloads if before.get(_key(payload)) == self._digests[_key(payload)]]
        same_bytes = sum(payload.data.size for payload in same)
        linked = self._link(checkpoint, name, same_bytes)
        if linked is not None:
            there = {_key(entry) for entry in linked.entries}
            return Sorted(linked, [], [each for each in payloads if _key(each) not in there], self._digests)
        if same_bytes < LEAST_BYTES:
            return Sorted(None, [], list(payloads), self._digests)
        apart = {_key(payload) for payload in same}
        return Sorted(None, same, [each for each in payloads if _key(each) not in apart], self._digests)

    def keep(self, checkpoint: str, parts: Sorted, frozen: DataFile | None) -> None:
        """The share of `checkpoint`, sorted into `parts`, is staged; `frozen` is its file apart."""
        if frozen is None or parts.digests is not self._digests:  # another share was sorted meanwhile
            self._frozen = None
        elif frozen.linked and self._frozen is not None:
            self._frozen.file = DataFile(frozen.handle, frozen.size_bytes, self._frozen.file.entries)
            self._frozen.names.add(checkpoint)
        else:
            digests = {_key(entry): parts.digests[_key(entry)] for entry in frozen.entries}
            self._frozen = _Frozen(frozen, digests, {checkpoint})

    def forget_file(self) -> None:
        """The next save links nothing: checkpoints are about to be verified, and what is found may be damage."""
        self._frozen = None

    def _digest_all(self, payloads: Sequence[Payload]) -> dict[_Key, bytes]:
        digests: dict[_Key, bytes] = {}

        def digest(payload: Payload) -> None:
            digests[_key(payload)] = xxhash.xxh3_128_digest(payload.data.data)

        for_each(digest, payloads, self._threads)
        return digests

    def _link(self, checkpoint: str, name: str, same_bytes: int) -> DataFile | None:
        """The frozen file as one of `checkpoint`; None where there is none, or writing anew is better.

        A checkpoint of a name that the file has already is written anew: what removes the earlier one of that name
        knows its files by what the name stands for, and would take the new one's (`commit.publication.remove`).
        """
        frozen = self._frozen
        if frozen is None or checkpoint in frozen.names or len(frozen.names) >= LINKED_MAX:
            return None
        digests = frozen.digests
        live = tuple(each for each in frozen.file.entries if self._digests.get(_key(each)) == digests[_key(each)])
        live_bytes = sum(entry.size_bytes for entry in live)
        if 2 * live_bytes < max(frozen.file.size_bytes, same_bytes):
            return None
        try:
            handle = self._storage.stage_link(frozen.file.handle, self._generation, name)
            if self._storage.staged_size(handle) == frozen.file.size_bytes:
                return DataFile(handle, frozen.file.size_bytes, live, linked=True)
            why: object = f"{handle} has another size than what was written"
        except StorageError as error:
            why = error
        log.warning("%s is written anew instead of linked: %s", checkpoint, why)
        discard_all(self._storage, [f"{self._generation}/{name}"])
        return None


def _key(tensor: Payload | Entry) -> _Key:
    return tensor.name, tensor.dtype, tensor.shape, tensor.part
