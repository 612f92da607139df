"""Silent corruption: mirrored variables are equal on all workers, or a memory, a kernel or a collective has failed.

Nothing has to be sent to see that. At each save every worker also takes the checksums of a portion of another worker's
share, from its own snapshot, and sends them along with its own shard; the coordinator compares them with what the other
has written, before the commit. Whose share, and which portion, changes from save to save, so that every byte has its
turn. A share that was given up is not compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from distckpt.model import Check, Piece, Shard

CrossCheck = Literal["warn", "refuse", "off"]

PORTIONS: Mapping[CrossCheck, int] = {"warn": 8, "refuse": 1}
"""A save checks one of so many portions of each share: all of it where a save is to be refused."""

NAMED_MAX = 3


@dataclass(frozen=True, slots=True)
class Difference:
    """`worker` wrote something else of `tensor` than `other` holds. Who of them is wrong is not known."""

    tensor: str
    worker: int
    other: int


def watched(worker: int, workers: int, turn: int, portions: int) -> int:
    """The share that `worker` checks on its `turn`: each turn every share is checked by one other worker."""
    return (worker + 1 + turn // portions % (workers - 1)) % workers


def portion(pieces: Sequence[Piece], turn: int, portions: int) -> list[Piece]:
    """What is checked of a share on this turn: whole pieces, by where they begin."""
    total = sum(piece.size_bytes for piece in pieces)
    chosen: list[Piece] = []
    start = 0
    for piece in pieces:
        if total and start * portions // total == turn % portions:
            chosen.append(piece)
        start += piece.size_bytes
    return chosen


def differences(shares: Mapping[int, Shard], checks: Mapping[int, Check]) -> Iterator[Difference]:
    """Compares what was written, by number of the share, with the checks, by worker."""
    for other, check in sorted(checks.items()):
        shard = shares.get(check.share)
        if shard is None:  # others wrote it, in other pieces
            continue
        sums = {(each.tensor, each.start): each.crc32c for each in check.sums}
        for entry in (entry for file in shard.data_files for entry in file.entries):
            start = entry.part[0].start if entry.part else 0
            if sums.get((entry.name, start), entry.crc32c) != entry.crc32c:
                yield Difference(entry.name, shard.worker, other)


def told(found: Sequence[Difference]) -> str:
    """For people."""
    named = ", ".join(f"{each.tensor} (workers {each.worker} and {each.other})" for each in found[:NAMED_MAX])
    more = f" and {len(found) - NAMED_MAX} more" if len(found) > NAMED_MAX else ""
    return f"mirrored variables differ between workers: {named}{more}"
