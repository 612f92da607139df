"""A worker's part in the search for silent corruption: checksums of what another one writes, from its own memory.

See `protocol.cross_check` for who checks what.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from distckpt.bundle.sums import checksums
from distckpt.model import Check, Share, Sum
from distckpt.protocol.cross_check import PORTIONS, CrossCheck, portion, watched
from distckpt.runtime.ticket import Snapshot

log = logging.getLogger("distckpt.agent")


class CrossChecker:
    """Of worker `worker` of generation `generation`; with `threads` threads."""

    def __init__(self, mode: CrossCheck, worker: int, generation: int, threads: int) -> None:
        self._portions = PORTIONS.get(mode, 0)
        self._worker = worker
        self._generation = generation
        self._threads = threads

    def check(self, snapshot: Snapshot, shares: Sequence[Share], workers: int, round_: int) -> Check | None:
        """What this worker finds in its own snapshot of what another one of `workers` writes in this round."""
        if not self._portions or workers == 1:
            return None
        turn = self._generation + round_
        share = watched(self._worker, workers, turn, self._portions)
        try:
            payloads = snapshot.payloads(portion(shares[share].pieces, turn, self._portions), own=False)
            payloads = [each for each in payloads if each.crc32c is None]  # of fixed width: the same bytes everywhere
            sums = checksums(payloads, threads=self._threads)
        except Exception as error:  # noqa: BLE001  # this worker's share is written, and the save must go on
            log.warning("the share of worker %d could not be checked: %s: %s", share, type(error).__name__, error)
            return None
        starts = (each.part[0].start if each.part else 0 for each in payloads)
        names = (each.name for each in payloads)
        return Check(share, tuple(map(Sum, names, starts, sums)))
