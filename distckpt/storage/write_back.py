"""Writing what the page cache holds to the disk while more is being written, instead of all of it at the fsync.

`sync_file_range(2)` with SYNC_FILE_RANGE_WRITE begins to write a range and does not wait, but for room in the device's
queue. It promises nothing: what makes bytes durable is the fsync, which still reports errors of the disk (only the
flags that wait take note of one that was reported). PostgreSQL does the same (pg_flush_data).
"""

from __future__ import annotations

import ctypes
import errno
import os

BEGUN_BYTES_MIN = 1 << 20
"""Less than this is left to the fsync: a request for every small file would cost a disk more than it wins."""

_SYNC_FILE_RANGE_WRITE = 2
_NOT_HERE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.ESPIPE, errno.EPERM, errno.EACCES)
"""The kernel, the file system or a sandbox (seccomp) does not let it be asked. Any other error is one of writing, and
not every file system tells the fsync of it again.
"""
_sync_file_range = getattr(ctypes.CDLL(None, use_errno=True), "sync_file_range", None)  # Linux alone has it
if _sync_file_range is not None:
    _sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


def begin_write_back(fd: int, offset: int, length: int) -> None:
    """Has the kernel begin to write `[offset, offset + length)`, where it can. Raises OSError if the disk fails."""
    if length < BEGUN_BYTES_MIN or _sync_file_range is None:
        return
    if _sync_file_range(fd, offset, length, _SYNC_FILE_RANGE_WRITE):
        number = ctypes.get_errno()
        if number not in _NOT_HERE:
            raise OSError(number, os.strerror(number))
