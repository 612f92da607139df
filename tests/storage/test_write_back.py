"""A large write is on its way to the disk when it returns; a small one is left to the fsync."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

import pytest

from distckpt.errors import StorageError, StorageNoSpace
from distckpt.storage import write_back
from distckpt.storage.posix import PosixStorage

SIZE = 4 * write_back.BEGUN_BYTES_MIN
CACHESTAT = 451
"""The number of cachestat(2), Linux 6.5, on every architecture."""


class Range(ctypes.Structure):
    _fields_ = (("offset", ctypes.c_uint64), ("length", ctypes.c_uint64))


class CacheStat(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("cache", "dirty", "writeback", "evicted", "recently_evicted"))


def dirty_pages(path: Path) -> int:
    """How many pages of a file nobody has begun to write."""
    told = CacheStat()
    fd = os.open(path, os.O_RDONLY)
    try:
        if ctypes.CDLL(None).syscall(CACHESTAT, fd, ctypes.byref(Range(0, 0)), ctypes.byref(told), 0):
            pytest.skip("this kernel does not tell which pages are dirty (cachestat, Linux 6.5)")
    finally:
        os.close(fd)
    return int(told.dirty)


def staged(storage: PosixStorage, size: int) -> Path:
    storage.stage(1, "shard").write_at(0, bytes(size))
    return storage.directory / ".distckpt/staging/1/shard"


@pytest.fixture
def storage(tmp_path: Path) -> PosixStorage:
    return PosixStorage.create(tmp_path / "job")


def test_a_large_write_is_on_its_way_when_it_returns(storage: PosixStorage, tmp_path: Path) -> None:
    control = tmp_path / "control"
    control.write_bytes(bytes(SIZE))
    if not dirty_pages(control):
        pytest.skip("this file system keeps no dirty pages, as one in memory")
    assert dirty_pages(staged(storage, SIZE)) < dirty_pages(control) / 10


def test_a_small_write_is_left_to_the_fsync(storage: PosixStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_back, "_sync_file_range", lambda *_: pytest.fail("asked for a small file"))
    staged(storage, write_back.BEGUN_BYTES_MIN - 1)


@pytest.mark.parametrize(("number", "kind"), [(errno.EIO, StorageError), (errno.ENOSPC, StorageNoSpace)])
def test_a_disk_that_fails_at_once_spoils_the_file(
    storage: PosixStorage, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[StorageError]
) -> None:
    monkeypatch.setattr(write_back, "_sync_file_range", refusing(number))
    file = storage.stage(1, "shard")
    with pytest.raises(kind, match="write 1/shard"):
        file.write_at(0, bytes(SIZE))
    with pytest.raises(StorageError, match="failed: stage a new one"):
        file.seal()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
def test_where_the_system_will_not_the_file_is_written_all_the_same(
    storage: PosixStorage, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(write_back, "_sync_file_range", refusing(number))
    file = storage.stage(1, "shard")
    file.write_at(0, bytes(SIZE))
    assert storage.staged_size(file.seal()) == SIZE


def refusing(number: int) -> object:
    def refuse(*_: int) -> int:
        ctypes.set_errno(number)
        return -1

    return refuse
