"""What a worker tells people of its part in saves: how far its share is, how long its training thread was held.

It travels with the heartbeats, and nothing is decided by it.
"""

from __future__ import annotations

import threading
from collections import deque

from distckpt.protocol.messages import STALLS_MAX, Activity, Stall
from distckpt.storage.interface import Bytes, StagedFile


class ActivityMeter:
    """Counts; called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._round = 0
        self._share_bytes = 0
        self._written_bytes = 0
        self._stalls: deque[Stall] = deque(maxlen=STALLS_MAX)

    def begin(self, round_: int, share_bytes: int) -> None:
        """This worker begins to write its share of a save, of so many bytes."""
        with self._lock:
            self._round, self._share_bytes, self._written_bytes = round_, share_bytes, 0

    def wrote(self, size_bytes: int) -> None:
        with self._lock:
            self._written_bytes += size_bytes

    def held(self, ordinal: int, step: int, seconds: float) -> None:
        """The training thread was held so long by the save that it asked for as its request `ordinal`."""
        self._stalls.append(Stall(ordinal, step, seconds))

    def read(self) -> Activity:
        with self._lock:
            return Activity(self._round, self._written_bytes, self._share_bytes, tuple(self._stalls))


class MeteredFile:
    """A staged file whose bytes are counted as they are written."""

    def __init__(self, file: StagedFile, meter: ActivityMeter) -> None:
        self._file = file
        self._meter = meter

    def write_at(self, offset: int, data: Bytes) -> None:
        self._file.write_at(offset, data)
        self._meter.wrote(len(data))

    def seal(self) -> str:
        return self._file.seal()

    def abandon(self) -> None:
        self._file.abandon()
