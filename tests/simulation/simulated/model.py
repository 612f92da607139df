"""The model that the simulated job trains: its state says at which step of which generation it was captured.

Every row of every tensor is that tag, so that a checkpoint put together from two captures shows it. In some worlds a
tensor is slow: it changes only every few steps, its rows say so, and it is linked in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distckpt.bundle.checksum import crc32c
from distckpt.bundle.payload import Payload
from distckpt.bundle.reader import BundleReader
from distckpt.errors import CorruptCheckpoint, StorageError
from distckpt.model import Check, DataFile, Entry, Extent, Piece, Shard, Share, Sum, TensorSpec
from distckpt.protocol.cross_check import watched
from distckpt.protocol.plan import specs_digest
from distckpt.protocol.staged import FROZEN
from distckpt.runtime.unchanged import Sorted, Unchanged, stage
from distckpt.storage.interface import Readable, StagedFile, Storage

UINT8 = 4
ROW_BYTES = 16
_ROWS = {"embedding": 24, "kernel": 3, "bias": 1}

SPECS = tuple(TensorSpec(n, UINT8, (r, ROW_BYTES), r * ROW_BYTES, divisible=True) for n, r in sorted(_ROWS.items()))
DIGEST = specs_digest(SPECS)
OWN = "chief_only"
MODEL_BYTES = sum(spec.size_bytes for spec in SPECS) + ROW_BYTES

Tag = tuple[int, int]
"""Generation and step."""


@dataclass(frozen=True, slots=True)
class Slow:
    """`tensors` change every `every` steps only."""

    tensors: frozenset[str] = frozenset()
    every: int = 1

    def row(self, tensor: str, tag: Tag) -> bytes:
        if tensor in self.tensors:
            return b"slow%04d%08d" % (self.every, tag[1] // self.every)
        return b"%08d%08d" % tag


NO_TENSORS = Slow()


def own_bytes(worker: int) -> int:
    return ROW_BYTES if worker == 0 else 0


@dataclass(frozen=True, slots=True)
class Memory:
    """What `worker` captured as `tag`; bits of each of the tensors `flipped`, not the same on any two workers, are not
    as they were captured.
    """

    tag: Tag
    worker: int
    slow: Slow
    flipped: frozenset[str] = frozenset()

    def held(self, piece: Piece) -> bytes:
        data = bytearray(self.slow.row(piece.tensor, self.tag) * (piece.size_bytes // ROW_BYTES))
        if piece.tensor in self.flipped:
            data[-1] ^= self.worker + 1
        return bytes(data)


def check(memory: Memory, shares: Sequence[Share], workers: int) -> Check | None:
    """What is found in `memory` of the share after its worker's own."""
    if workers == 1:
        return None
    share = watched(memory.worker, workers, 0, 1)
    starts = (0 if piece.rows is None else piece.rows.start for piece in shares[share].pieces)
    sums = (
        Sum(piece.tensor, start, crc32c(memory.held(piece)))
        for piece, start in zip(shares[share].pieces, starts, strict=True)
    )
    return Check(share, tuple(sums))


def stage_share(
    storage: Storage,
    name: str,
    memory: Memory,
    share: Share,
    *,
    own: bool,
    generation: int | None = None,
    unchanged: Unchanged | None = None,
) -> Shard:
    """Writes a share and, where `own`, what only the chief writes, from `memory`. Raises StorageError.

    `generation`: whose staging it goes to, where it is not the tag's. `unchanged`: what this worker wrote before, if
    it may link that.
    """
    pieces = [*share.pieces, Piece(OWN, ROW_BYTES)] if own else list(share.pieces)
    payloads = [_payload(piece, memory.held(piece)) for piece in pieces]
    checkpoint = f"ckpt-{memory.tag[1]}"
    parts = unchanged.sort(payloads, checkpoint, name + FROZEN) if unchanged else Sorted(None, [], payloads)
    into = memory.tag[0] if generation is None else generation
    rest, frozen = stage(parts, name, storage, lambda file, its: _staged_file(storage.stage(into, file), its))
    if unchanged is not None:
        unchanged.keep(checkpoint, parts, frozen)
    return Shard(share.worker, rest.handle, rest.size_bytes, rest.entries, frozen=frozen)


def _payload(piece: Piece, held: bytes) -> Payload:
    part = None if piece.rows is None else (piece.rows, Extent(0, ROW_BYTES))
    data = np.frombuffer(held, np.uint8)
    return Payload(piece.tensor, UINT8, (_ROWS.get(piece.tensor, 1), ROW_BYTES), data, part)


def _staged_file(file: StagedFile, payloads: Sequence[Payload]) -> DataFile:
    entries: list[Entry] = []
    offset = 0
    try:
        for each in payloads:
            file.write_at(offset, each.data)
            size = each.data.size
            entries.append(Entry(each.name, each.dtype, each.shape, offset, size, crc32c(each.data), each.part))
            offset += size
        return DataFile(file.seal(), offset, tuple(entries))
    except StorageError:
        file.abandon()
        raise


def read_tag(storage: Readable, name: str) -> Tag:
    """Reads a whole checkpoint, checksums and all. Raises CorruptData if it is not one capture, complete."""
    reader = BundleReader(storage, name)
    if set(reader.tensors) != {*_ROWS, OWN}:
        raise CorruptCheckpoint(name, f"it has the tensors {sorted(reader.tensors)}")
    rows = {bytes(row) for tensor in reader.tensors for row in reader.read(tensor).data.reshape(-1, ROW_BYTES)}
    slow = {row for row in rows if row.startswith(b"slow")}
    tags = [(int(row[:8]), int(row[8:])) for row in rows - slow]
    if len(tags) != 1 or any(int(row[8:]) != tags[0][1] // int(row[4:8]) for row in slow):
        raise CorruptCheckpoint(name, f"it is a mixture of {sorted(rows)}")
    return tags[0]
