"""A file in `.distckpt/staging/`, from its first byte to its seal.

Its descriptor is closed only when the last `write_at` under way has returned: a number closed early could be some other
file's by the time a writer uses it. A write or fsync that failed spoils the file for good: the kernel reports a lost
page once, and a second fsync that succeeds says nothing about it.
"""

from __future__ import annotations

import os
from pathlib import Path
from threading import Lock
from typing import Literal

from distckpt.errors import StorageError
from distckpt.storage.durable import explained, sync_folder, write_all
from distckpt.storage.interface import Bytes

State = Literal["open", "sealed", "abandoned", "failed"]


class PosixStagedFile:
    """See `StagedFile`. `fd` is open for writing on `path`, and belongs to this object from now on."""

    def __init__(self, path: Path, handle: str, fd: int) -> None:
        self._path = path
        self._handle = handle
        self._fd: int | None = fd
        self._state: State = "open"
        self._writing = 0
        self._lock = Lock()

    def write_at(self, offset: int, data: Bytes) -> None:
        with self._lock:
            fd = self._open_descriptor("write")
            self._writing += 1
        try:
            with explained("write", self._handle):
                write_all(fd, data, offset)
        except StorageError:
            self._leave_open("failed")
            raise
        finally:
            with self._lock:
                self._writing -= 1
                self._close_when_unused()

    def seal(self) -> str:
        with self._lock:
            if self._state == "sealed":
                return self._handle
            fd = self._open_descriptor("seal")
            if self._writing:
                raise StorageError(f"seal {self._handle}: a write is still under way", self._handle)
            self._state = "failed"  # unless all of the following succeeds
            with explained("seal", self._handle):
                try:
                    os.fsync(fd)
                finally:
                    self._close_when_unused()
                sync_folder(self._path.parent)
            self._state = "sealed"
            return self._handle

    def abandon(self) -> None:
        self._leave_open("abandoned")
        with explained("abandon", self._handle):
            self._path.unlink(missing_ok=True)
        with self._lock:
            self._close_when_unused()

    def _open_descriptor(self, operation: str) -> int:
        if self._state != "open" or self._fd is None:
            raise StorageError(f"{operation} {self._handle}: the file is {self._state}: stage a new one", self._handle)
        return self._fd

    def _leave_open(self, state: State) -> None:
        with self._lock:
            if self._state == "open":
                self._state = state

    def _close_when_unused(self) -> None:
        if self._state != "open" and not self._writing and self._fd is not None:
            fd, self._fd = self._fd, None
            os.close(fd)
