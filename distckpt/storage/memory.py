"""A storage in memory, for tests and the simulation: the same promises, durable as long as the object lives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from threading import RLock

import numpy as np
from numpy.typing import NDArray

from distckpt.errors import ObjectMissing, StorageError
from distckpt.storage.interface import Bytes, Readable, fill, view_of
from distckpt.storage.keys import check_handle, check_key


class MemoryStorage:
    """See `Storage`. Processes that crash in a simulation share the object: what they left is what it holds."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}
        self._staged: dict[str, MemoryStagedFile] = {}
        self._files: dict[str, MemoryStagedFile] = {}  # what was published, and not replaced since
        self._lock = RLock()

    def put_if_absent(self, key: str, data: bytes) -> bool:
        with self._lock:
            if check_key(key) in self._objects:
                return False
            self._objects[key] = bytes(data)
            return True

    def put(self, key: str, data: bytes, *, private: bool = False) -> None:  # noqa: ARG002 - there is nobody to hide from
        with self._lock:
            self._objects[check_key(key)] = bytes(data)
            self._files.pop(key, None)

    def read(self, key: str) -> bytes:
        try:
            return self._objects[check_key(key)]
        except KeyError:
            raise ObjectMissing(f"read {key}: there is no such object", key) from None

    def read_at(self, key: str, offset: int, length: int) -> bytes:
        return self.read(key)[offset : offset + length]

    def read_into(self, key: str, offset: int, buffers: Sequence[NDArray[np.uint8]]) -> int:
        return fill(buffers, self.read_at(key, offset, sum(buffer.size for buffer in buffers)))

    def size(self, key: str) -> int:
        return len(self.read(key))

    def keys(self, prefix: str) -> list[str]:
        folder = check_key(prefix) + "/" if prefix else ""
        with self._lock:
            return sorted(key for key in self._objects if key.startswith(folder))

    def delete(self, key: str) -> None:
        with self._lock:
            self._objects.pop(check_key(key), None)
            self._files.pop(key, None)

    def together(self) -> AbstractContextManager[None]:
        return nullcontext()

    def stage(self, generation: int, name: str) -> MemoryStagedFile:
        handle = check_handle(f"{generation}/{name}")
        with self._lock:
            if handle in self._staged:
                raise StorageError(f"stage {handle}: it exists", handle)
            self._staged[handle] = MemoryStagedFile(self, handle)
            return self._staged[handle]

    def stage_link(self, handle: str, generation: int, name: str) -> str:
        linked = check_handle(f"{generation}/{name}")
        with self._lock:
            file = self._staged.get(check_handle(handle))
            if file is None:
                raise ObjectMissing(f"link {linked}: there is no staged {handle}", handle)
            if linked in self._staged:
                raise StorageError(f"link {linked}: it exists", linked)
            self._staged[linked] = file
            return linked

    def publish(self, handle: str, key: str) -> None:
        check_handle(handle)
        check_key(key)
        with self._lock:
            file = self._staged.get(handle)
            if file is None:
                raise ObjectMissing(f"publish {key}: there is no staged {handle}", key)
            self._objects[key] = file.content()
            self._files[key] = file

    def is_published(self, handle: str, key: str) -> bool:
        with self._lock:
            file = self._staged.get(check_handle(handle))
            return file is not None and self._files.get(check_key(key)) is file

    def under_own_names(self, handles: Mapping[str, str]) -> Readable:
        with self._lock:
            own = MemoryStorage()
            own._objects = dict(self._objects)
            for key, handle in handles.items():
                file = self._staged.get(check_handle(handle))
                own._objects.pop(key, None)
                if file is not None:
                    own._objects[check_key(key)] = file.content()
            return own

    def staged_size(self, handle: str) -> int:
        try:
            return self._staged[check_handle(handle)].size
        except KeyError:
            raise ObjectMissing(f"size {handle}: there is no such object", handle) from None

    def discard(self, handle: str, key: str = "") -> None:
        with self._lock:
            file = self._staged.pop(check_handle(handle), None)
            if key and file is not None and self._files.get(check_key(key)) is file:
                self.delete(key)

    def staged(self) -> list[str]:
        with self._lock:
            return sorted(self._staged)

    def holds(self, handle: str, file: MemoryStagedFile) -> bool:
        """Whether `handle` still is `file`."""
        return self._staged.get(handle) is file


class MemoryStagedFile:
    """See `StagedFile`. Publishing it before it is sealed is an error here, where on POSIX it could not be noticed."""

    def __init__(self, storage: MemoryStorage, handle: str) -> None:
        self._storage = storage
        self._handle = handle
        self._data = bytearray()
        self._state = "open"
        self._lock = RLock()

    def write_at(self, offset: int, data: Bytes) -> None:
        with self._lock:
            self._require("open", "write")
            view = view_of(data)
            if len(self._data) < offset and view:
                self._data.extend(bytes(offset - len(self._data)))
            self._data[offset : offset + len(view)] = view

    def seal(self) -> str:
        with self._lock:
            if self._state != "sealed":
                self._require("open", "seal")
                self._state = "sealed" if self._storage.holds(self._handle, self) else "removed"
                self._require("sealed", "seal")
            return self._handle

    def abandon(self) -> None:
        with self._lock:
            if self._state == "open":
                self._state = "abandoned"
        if self._storage.holds(self._handle, self):
            self._storage.discard(self._handle)

    @property
    def size(self) -> int:
        return len(self._data)

    def content(self) -> bytes:
        """What was sealed. Raises StorageError before that."""
        self._require("sealed", "publish")
        return bytes(self._data)

    def _require(self, state: str, operation: str) -> None:
        if self._state != state:
            raise StorageError(f"{operation} {self._handle}: the file is {self._state}: stage a new one", self._handle)
