"""The system calls that make bytes durable, and what their errors mean. Used by the POSIX storage alone.

All of them end in `os.fsync`, `os.pwrite`, `os.mkdir` and so on, looked up at the call: a test that replaces those sees
every one, in order.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distckpt.errors import ObjectMissing, StorageError, StorageNoSpace
from distckpt.storage.interface import Bytes, view_of

_BUFFERS_MAX = 1024
"""Linux fills no more of them in one call (IOV_MAX)."""
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_NO_FOLDER_SYNC = (errno.EINVAL, errno.EBADF, errno.ENOTSUP)
"""Some file systems cannot fsync a directory and say so; PostgreSQL (fsync_fname_ext) goes on in the same way."""


def storage_error(error: OSError, operation: str, key: str) -> StorageError:
    """What is raised for `error`: names the operation, the key and the system's own words."""
    name = errno.errorcode.get(error.errno or 0, type(error).__name__)
    kind = StorageNoSpace if error.errno in _NO_SPACE else StorageError
    return kind(f"{operation} {key}: {error.strerror or error} ({name})", key)


@contextmanager
def explained(operation: str, key: str) -> Iterator[None]:
    """Raises StorageError for any OSError inside."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, operation, key) from error


@contextmanager
def found(operation: str, key: str) -> Iterator[None]:
    """As `explained`, and ObjectMissing where there is no such file."""
    try:
        with explained(operation, key):
            yield
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            raise ObjectMissing(f"{operation} {key}: there is no such object", key) from error
        raise


def write_all(fd: int, data: Bytes, offset: int) -> None:
    """Writes all of `data` at `offset`, however many calls it takes (Linux writes at most 2 GiB in one)."""
    view = view_of(data)
    while view:
        written = os.pwrite(fd, view, offset)
        if not written:
            raise OSError(errno.EIO, f"nothing more was written at offset {offset}")
        view = view[written:]
        offset += written


def read_up_to(fd: int, offset: int, length: int) -> bytes:
    """`length` bytes from `offset`, fewer only at the end of the file."""
    parts = []
    while length and (part := os.pread(fd, length, offset)):
        parts.append(part)
        offset += len(part)
        length -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def read_into(fd: int, offset: int, buffers: Sequence[NDArray[np.uint8]]) -> int:
    """Fills `buffers`, in turn, from `offset`; returns how many bytes there were, fewer only at the end of the file."""
    views = [buffer.data for buffer in buffers if buffer.size]
    filled = first = 0
    while first < len(views) and (count := os.preadv(fd, views[first : first + _BUFFERS_MAX], offset + filled)):
        filled += count
        while first < len(views) and count >= len(views[first]):
            count -= len(views[first])
            first += 1
        if count:
            views[first] = views[first][count:]
    return filled


def sync_folder(folder: Path) -> None:
    """Makes the names in `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(fd)


def make_folders(folder: Path, top: Path) -> None:
    """Makes the folders from below `top` (which must exist) to `folder`, each name durable in its parent.

    A name that exists is made durable too: whoever made it may not have come so far. FileNotFoundError: another process
    removed one meanwhile.
    """
    chain = [folder, *folder.parents]
    for each in reversed(chain[: chain.index(top)]):
        try:
            each.mkdir()
        except FileExistsError:
            if not stat.S_ISDIR(each.lstat().st_mode):
                raise
        sync_folder(each.parent)
