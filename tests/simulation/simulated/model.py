"""The model that the simulated job trains: its state says at which step of which generation it was captured.

Every row of every tensor is that tag, so that a checkpoint put together from two captures shows it.
"""

from __future__ import annotations

from collections.abc import Sequence

from distckpt.bundle.checksum import crc32c
from distckpt.bundle.reader import BundleReader
from distckpt.errors import CorruptCheckpoint, StorageError
from distckpt.model import Check, Entry, Extent, Piece, Shard, Share, Sum, TensorSpec
from distckpt.protocol.cross_check import watched
from distckpt.protocol.plan import specs_digest
from distckpt.storage.interface import Storage

UINT8 = 4
ROW_BYTES = 16
_ROWS = {"embedding": 24, "kernel": 3, "bias": 1}

SPECS = tuple(TensorSpec(n, UINT8, (r, ROW_BYTES), r * ROW_BYTES, divisible=True) for n, r in sorted(_ROWS.items()))
DIGEST = specs_digest(SPECS)
OWN = "chief_only"
MODEL_BYTES = sum(spec.size_bytes for spec in SPECS) + ROW_BYTES

Tag = tuple[int, int]
"""Generation and step."""


def own_bytes(worker: int) -> int:
    return ROW_BYTES if worker == 0 else 0


def held(tag: Tag, piece: Piece, worker: int, flipped: frozenset[str]) -> bytes:
    """What the worker's memory holds of a piece; bits of each of the tensors `flipped`, not the same on any two
    workers, are not as they were captured.
    """
    data = bytearray(f"{tag[0]:08d}{tag[1]:08d}".encode() * (piece.size_bytes // ROW_BYTES))
    if piece.tensor in flipped:
        data[-1] ^= worker + 1
    return bytes(data)


def check(tag: Tag, shares: Sequence[Share], worker: int, workers: int, flipped: frozenset[str]) -> Check | None:
    """What `worker` finds in its memory of the share after its own."""
    if workers == 1:
        return None
    share = watched(worker, workers, 0, 1)
    starts = (0 if piece.rows is None else piece.rows.start for piece in shares[share].pieces)
    sums = (
        Sum(piece.tensor, start, crc32c(held(tag, piece, worker, flipped)))
        for piece, start in zip(shares[share].pieces, starts, strict=True)
    )
    return Check(share, tuple(sums))


def stage_share(
    storage: Storage,
    name: str,
    tag: Tag,
    share: Share,
    *,
    own: bool,
    generation: int | None = None,
    flipped: frozenset[str] = frozenset(),
) -> Shard:
    """Writes a share and, where `own`, what only the chief writes; `tag` is the snapshot's. Raises StorageError.

    `generation`: whose staging it goes to, where it is not the tag's.
    """
    pieces = [*share.pieces, Piece(OWN, ROW_BYTES)] if own else list(share.pieces)
    if not pieces:
        return Shard(share.worker, "", 0, ())
    file = storage.stage(tag[0] if generation is None else generation, name)
    entries: list[Entry] = []
    offset = 0
    try:
        for piece in pieces:
            data = held(tag, piece, share.worker, flipped)
            file.write_at(offset, data)
            shape = (_ROWS.get(piece.tensor, 1), ROW_BYTES)
            part = None if piece.rows is None else (piece.rows, Extent(0, ROW_BYTES))
            entries.append(Entry(piece.tensor, UINT8, shape, offset, len(data), crc32c(data), part))
            offset += len(data)
        return Shard(share.worker, file.seal(), offset, tuple(entries))
    except StorageError:
        file.abandon()
        raise


def read_tag(storage: Storage, name: str) -> Tag:
    """Reads a whole checkpoint, checksums and all. Raises CorruptData if it is not one capture, complete."""
    reader = BundleReader(storage, name)
    if set(reader.tensors) != {*_ROWS, OWN}:
        raise CorruptCheckpoint(name, f"it has the tensors {sorted(reader.tensors)}")
    rows = {bytes(row) for tensor in reader.tensors for row in reader.read(tensor).data.reshape(-1, ROW_BYTES)}
    if len(rows) != 1:
        raise CorruptCheckpoint(name, f"it is a mixture of {sorted(rows)}")
    (row,) = rows
    return int(row[:8]), int(row[8:])
