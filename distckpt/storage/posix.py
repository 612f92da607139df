"""A directory of a POSIX file system as storage. It must have hard links (ext4, XFS, NFS, Lustre, GPFS, tmpfs have).

Put-if-absent is a temporary file, fsync, `link(2)`, fsync of the folder: link fails where the name exists, on NFS too,
where rename and O_EXCL are no good. Everything else that appears appears by rename; a published file is a second link.

The directory itself may be a symbolic link. Below it, a folder that is one is refused; a file that is one is read
through (people keep old checkpoints elsewhere so), but writing, publishing and deleting act on the link, never on what
it points at. Reading makes nothing; writing makes folders below the directory, never the directory: see `create`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import local
from typing import TypeVar
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from distckpt.errors import DirectoryNotWritable, ObjectMissing, OutcomeUnknown, StorageError
from distckpt.storage.durable import (
    explained,
    found,
    make_folders,
    read_into,
    read_up_to,
    sync_folder,
    write_all,
)
from distckpt.storage.interface import Bytes, Readable
from distckpt.storage.keys import HIDDEN, STAGING, TEMPORARY, check_handle, check_key, is_reserved
from distckpt.storage.link import link_if_absent
from distckpt.storage.posix_staged import PosixStagedFile

_T = TypeVar("_T")
_FOLDER_ATTEMPTS = 20
_LEFTOVER_AGE_S = 86_400.0


class PosixStorage:
    """See `Storage`. Constructing it touches nothing; `create` also makes the directory and tries writing."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._root = Path(os.path.abspath(directory))  # noqa: PTH100 - Path.resolve would follow the user's links
        self._known: set[Path] = set()  # folders that this object made, or found and made durable
        self._batches = _Batches()

    @classmethod
    def create(cls, directory: str | os.PathLike[str]) -> PosixStorage:
        """The storage in `directory`, which is made if it is absent, with what crashed writers left cleared away.

        Raises DirectoryNotWritable where it cannot be made, written, or has no hard links.
        """
        storage = cls(directory)
        root = storage._root
        try:
            make_folders(root, next(each for each in (root, *root.parents) if each.exists()))
            storage._try_writing()
        except OSError as error:
            raise DirectoryNotWritable(f"{root}: {error.strerror or error}") from error
        except StorageError as error:
            raise DirectoryNotWritable(f"{root}: {error}") from error
        return storage

    @property
    def directory(self) -> Path:
        return self._root

    # ------------------------------------------------------------------------------------------------------- writing

    def put_if_absent(self, key: str, data: bytes) -> bool:
        target = self._path(key)
        with (
            self._temporary("put_if_absent", key, data, 0o666) as temporary,
            explained("put_if_absent", key),
        ):
            created = self._in_folder(target, lambda: link_if_absent(temporary, target, data), temporary)
        if created:
            try:
                _sync_names(target.parent)
            except OSError as error:
                raise OutcomeUnknown(f"put_if_absent {key}: exists, but may not be durable: {error}") from error
        return created

    def put(self, key: str, data: bytes, *, private: bool = False) -> None:
        target = self._path(key)
        with (
            self._temporary("put", key, data, 0o600 if private else 0o666) as temporary,
            explained("put", key),
        ):
            self._in_folder(target, lambda: temporary.replace(target), temporary)
            _sync_names(target.parent)

    def delete(self, key: str) -> None:
        self._remove("delete", key, self._path(key))

    @contextmanager
    def together(self) -> Iterator[None]:
        self._batches.current = folders = set[Path]()
        try:
            yield
        finally:
            self._batches.current = None
            for folder in sorted(folders):
                with explained("make names durable in", folder.name):
                    _sync_names(folder)

    # ------------------------------------------------------------------------------------------------------- reading

    def read(self, key: str) -> bytes:
        with self._opened("read", key) as (fd, size):
            data = read_up_to(fd, 0, size)
            while more := os.pread(fd, 1 << 20, len(data)):  # it grew meanwhile: not a file of ours
                data += more
            return data

    def read_at(self, key: str, offset: int, length: int) -> bytes:
        with self._opened("read", key) as (fd, size):
            return read_up_to(fd, offset, max(0, min(length, size - offset)))

    def read_into(self, key: str, offset: int, buffers: Sequence[NDArray[np.uint8]]) -> int:
        with self._opened("read", key) as (fd, _):
            return read_into(fd, offset, buffers)

    def size(self, key: str) -> int:
        with self._opened("size", key) as (_, size):
            return size

    def keys(self, prefix: str) -> list[str]:
        top = self._path(prefix) if prefix else self._root
        with explained("list", prefix):
            return sorted(self._files_below(top, prefix))

    # ------------------------------------------------------------------------------------------------------- staging

    def stage(self, generation: int, name: str) -> PosixStagedFile:
        handle = check_handle(f"{generation}/{name}")
        path = self._staged_path(handle)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with explained("stage", handle):
            fd = self._in_folder(path, lambda: os.open(path, flags, 0o666))
        return PosixStagedFile(path, handle, fd)

    def stage_link(self, handle: str, generation: int, name: str) -> str:
        linked = check_handle(f"{generation}/{name}")
        source, path = self._staged_path(handle), self._staged_path(linked)
        with found("link", handle):
            self._in_folder(path, lambda: os.link(source, path), source)
            sync_folder(path.parent)  # the chief's, of what it stages later, may be on another machine
        return linked

    def publish(self, handle: str, key: str) -> None:
        source, target = self._staged_path(handle), self._path(key)
        with explained("publish", key):
            if not self.is_published(handle, key):
                self._link_over(source, target, handle, key)
            self._sync_names_in_time(target.parent)

    def is_published(self, handle: str, key: str) -> bool:
        with explained("look at", key):
            try:
                return os.path.samestat(self._staged_path(handle).lstat(), self._path(key).lstat())
            except (FileNotFoundError, NotADirectoryError):
                return False

    def under_own_names(self, handles: Mapping[str, str]) -> Readable:
        return _UnderOwnNames(self._root, handles)

    def staged_size(self, handle: str) -> int:
        with found("size", handle):
            return self._staged_path(handle).lstat().st_size

    def discard(self, handle: str, key: str = "") -> None:
        path = self._staged_path(handle)
        with explained("discard", handle), _held(path if key else None) as file:
            self._remove("discard", handle, path)
            # Only now, when the handle is gone: who publishes it later sees that, and takes the name away itself.
            if file is not None and _is(self._path(key), file):
                self.delete(key)

    def staged(self) -> list[str]:
        top = self._root / STAGING
        with explained("list", STAGING):
            handles = [name.removeprefix(STAGING + "/") for name in self._files_below(top, STAGING, reserved=True)]
        return sorted(handle for handle in handles if handle.count("/") == 1 and handle.partition("/")[0].isdigit())

    # ------------------------------------------------------------------------------------------------------ the parts

    def _path(self, key: str) -> Path:
        return self._inside(check_key(key))

    def _staged_path(self, handle: str) -> Path:
        return self._inside(f"{STAGING}/{check_handle(handle)}")

    def _inside(self, name: str) -> Path:
        folder = str(self._root)
        for component in name.split("/")[:-1]:
            folder = f"{folder}/{component}"
            if os.path.islink(folder):  # noqa: PTH114 - at every read: a Path for each would cost more than the call
                raise StorageError(f"{name}: the folder {folder} is a symbolic link: it is not followed", name)
        return self._root / name

    def _link_over(self, source: Path, target: Path, handle: str, key: str) -> None:
        """Makes `target` another name of `source` in one step: link(2) does not replace, rename(2) does.

        Where `source` was discarded meanwhile, by a chief of a later generation, `target` was left to this one.
        """
        temporary = self._inside(f"{TEMPORARY}/{uuid4().hex}")
        missing = ObjectMissing(f"publish {key}: there is no staged {handle}", key)
        try:
            self._in_folder(temporary, lambda: os.link(source, temporary), source)
            file = temporary.lstat()
            self._in_folder(target, lambda: temporary.replace(target), temporary)
        except FileNotFoundError:
            raise missing from None
        finally:
            temporary.unlink(missing_ok=True)
        if not os.path.lexists(source):
            if _is(target, file):
                target.unlink(missing_ok=True)
            raise missing

    def _in_folder(self, path: Path, action: Callable[[], _T], source: Path | None = None) -> _T:
        """Does `action`, which makes `path` (of `source`), in a folder that exists and is durable.

        Another process may remove the folder, empty, at any time: then it is made again.
        """
        for attempt in range(_FOLDER_ATTEMPTS):
            try:
                if path.parent not in self._known:
                    make_folders(path.parent, self._root)
                    self._known.add(path.parent)
                return action()
            except FileNotFoundError:
                self._known.discard(path.parent)
                if attempt == _FOLDER_ATTEMPTS - 1 or (source is not None and not os.path.lexists(source)):
                    raise
        raise AssertionError("the last attempt returns or raises")

    @contextmanager
    def _temporary(self, operation: str, key: str, data: Bytes, mode: int) -> Iterator[Path]:
        """A file with `data`, durable, under a name that nobody else uses; the name is gone at the end."""
        path = self._inside(f"{TEMPORARY}/{uuid4().hex}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with explained(operation, key):
            fd = self._in_folder(path, lambda: os.open(path, flags, mode))
        try:
            with explained(operation, key):
                try:
                    write_all(fd, data, 0)
                    os.fsync(fd)
                finally:
                    os.close(fd)
            yield path
        finally:
            with suppress(OSError):  # `create` clears away what stays
                path.unlink(missing_ok=True)

    @contextmanager
    def _opened(self, operation: str, key: str) -> Iterator[tuple[int, int]]:
        """The descriptor and the size of a regular file, open for reading."""
        path = self._path(key)
        with found(operation, key):
            # Not blocking: a pipe or a device put in a file's place must not hang the reader.
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                status = os.fstat(fd)
                if stat.S_ISDIR(status.st_mode):
                    raise FileNotFoundError(errno.ENOENT, "is a folder")
                if not stat.S_ISREG(status.st_mode):
                    raise OSError(errno.EINVAL, "is not a regular file")
                yield fd, status.st_size
            finally:
                os.close(fd)

    def _files_below(self, folder: Path, name: str, *, reserved: bool = False) -> Iterator[str]:
        try:
            with os.scandir(folder) as entries:
                found_here = list(entries)
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in found_here:
            key = f"{name}/{entry.name}" if name else entry.name
            if is_reserved(key) and not reserved:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from self._files_below(folder / entry.name, key, reserved=reserved)
            elif entry.is_file():
                yield key

    def _remove(self, operation: str, key: str, path: Path) -> None:
        with explained(operation, key):
            with suppress(FileNotFoundError, NotADirectoryError):
                path.unlink(missing_ok=True)
                self._sync_names_in_time(path.parent)
            hidden = self._root / HIDDEN
            for folder in path.parents:
                if hidden not in folder.parents:
                    return
                try:
                    folder.rmdir()
                except OSError:  # not empty, or gone already
                    return
                self._known.discard(folder)

    def _sync_names_in_time(self, folder: Path) -> None:
        if self._batches.current is None:
            _sync_names(folder)
        else:
            self._batches.current.add(folder)

    def _try_writing(self) -> None:
        """Writes and links once, then removes temporary files and staging folders that crashed writers left.

        How old a file is is told by the file system's own clock.
        """
        with self._temporary("write", "a probe", b"distckpt", 0o666) as probe:
            linked = probe.with_suffix(".link")
            link_if_absent(probe, linked, b"distckpt")
            now = os.lstat(linked).st_mtime
            linked.unlink()
        for path in (self._root / TEMPORARY).iterdir():
            with suppress(OSError):
                if now - os.lstat(path).st_mtime > _LEFTOVER_AGE_S:
                    path.unlink()
        for folder in (self._root / STAGING).glob("*"):
            with suppress(OSError):
                folder.rmdir()


class _Batches(local):
    """The folders whose names are to be made durable `together`; to each thread its own."""

    current: set[Path] | None = None


class _UnderOwnNames(PosixStorage):
    """For reading alone."""

    def __init__(self, directory: Path, handles: Mapping[str, str]) -> None:
        super().__init__(directory)
        self._handles = handles

    def _path(self, key: str) -> Path:
        handle = self._handles.get(key)
        return super()._path(key) if handle is None else self._staged_path(handle)


@contextmanager
def _held(path: Path | None) -> Iterator[os.stat_result | None]:
    """What file has the name `path`, if one has: as long as it is held, no other file gets its number."""
    try:
        fd = -1 if path is None else os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        fd = -1
    try:
        yield os.fstat(fd) if fd >= 0 else None
    finally:
        if fd >= 0:
            os.close(fd)


def _is(path: Path, file: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.lstat(), file)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _sync_names(folder: Path) -> None:
    """Makes the names in `folder` durable, if it is still there: an empty one may be removed by anyone."""
    with suppress(FileNotFoundError):
        sync_folder(folder)
