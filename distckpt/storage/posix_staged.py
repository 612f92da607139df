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
from distckpt.storage.write_back import begin_write_back

State = Literal["open", "sealed", "abandoned", "failed"]


class PosixStagedFile:
    """See `StagedFile`. `fd` is open for writing on `path`, and belongs to this object from now on."""

    def __init__(self, path: Path, handle: str, fd: int) -> None:
        self._path = path
        self._handle = handle
        self._fd: int | None = fd
        self._closed: os.stat_result | None = None  # what it was when its descriptor was closed
        self._removed = False
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
                begin_write_back(fd, offset, len(data))
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
                    sync_folder(self._path.parent)
                    there = self._is_there()
                finally:
                    self._close_when_unused()
            if not there:
                raise StorageError(f"seal {self._handle}: another process has removed it", self._handle)
            self._state = "sealed"
            return self._handle

    def abandon(self) -> None:
        self._leave_open("abandoned")
        with explained("abandon", self._handle):
            if not self._removed and self._is_there():
                self._path.unlink(missing_ok=True)
            self._removed = True
        with self._lock:
            self._close_when_unused()

    def _open_descriptor(self, operation: str) -> int:
        if self._state != "open" or self._fd is None:
            raise StorageError(f"{operation} {self._handle}: the file is {self._state}: stage a new one", self._handle)
        return self._fd

    def _is_there(self) -> bool:
        """Whether the name is still this file's: a later generation discards what earlier ones left in staging.

        The inode number of a removed file is used again, but not while it is open; after that the times tell.
        """
        try:
            found = self._path.lstat()
        except FileNotFoundError:
            return False
        if self._fd is not None:
            return os.path.samestat(found, os.fstat(self._fd))
        closed = self._closed
        return closed is not None and os.path.samestat(found, closed) and found.st_mtime_ns == closed.st_mtime_ns

    def _leave_open(self, state: State) -> None:
        with self._lock:
            if self._state == "open":
                self._state = state

    def _close_when_unused(self) -> None:
        if self._state != "open" and not self._writing and self._fd is not None:
            fd, self._fd = self._fd, None
            self._closed = os.fstat(fd)
            os.close(fd)
