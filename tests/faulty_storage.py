"""A storage that fails, or whose process dies, at any chosen operation. For tests; the fixture `faulty` is this module.

Each operation that changes something calls `before(operation, key)`, has its effect, and calls `after(operation, key)`.
A hook that raises in `before` keeps the effect from happening; one in `after` lets it happen first. After `Crash` the
process is dead: nothing that it still tries (cleaning up, say) has an effect, and `Crash` is raised again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from distckpt.storage.interface import Bytes, Readable, StagedFile, Storage

Hook = Callable[[str, str], None]
T = TypeVar("T")


class Crash(BaseException):
    """The process is killed here."""


def nothing(operation: str, key: str) -> None:
    pass


def at(number: int, error: BaseException) -> Hook:
    """A hook that raises `error` the `number`-th time it is called, counted from 0."""
    calls = 0

    def hook(operation: str, key: str) -> None:
        nonlocal calls
        calls += 1
        if calls == number + 1:
            raise error

    return hook


class FaultyStorage:
    """`inner`, with hooks. `operations` is what was tried so far, as (operation, key or handle)."""

    def __init__(self, inner: Storage, before: Hook = nothing, after: Hook = nothing) -> None:
        self.inner = inner
        self.before = before
        self.after = after
        self.operations: list[tuple[str, str]] = []
        self._dead = False

    def put_if_absent(self, key: str, data: bytes) -> bool:
        return self.change("put_if_absent", key, lambda: self.inner.put_if_absent(key, data))

    def put(self, key: str, data: bytes, *, private: bool = False) -> None:
        self.change("put", key, lambda: self.inner.put(key, data, private=private))

    def read(self, key: str) -> bytes:
        return self.inner.read(key)

    def read_at(self, key: str, offset: int, length: int) -> bytes:
        return self.inner.read_at(key, offset, length)

    def read_into(self, key: str, offset: int, buffers: Sequence[NDArray[np.uint8]]) -> int:
        return self.inner.read_into(key, offset, buffers)

    def size(self, key: str) -> int:
        return self.inner.size(key)

    def keys(self, prefix: str) -> list[str]:
        return self.inner.keys(prefix)

    def delete(self, key: str) -> None:
        self.change("delete", key, lambda: self.inner.delete(key))

    def together(self) -> AbstractContextManager[None]:
        return self.inner.together()

    def stage(self, generation: int, name: str) -> StagedFile:
        handle = f"{generation}/{name}"
        return FaultyStagedFile(self, handle, self.change("stage", handle, lambda: self.inner.stage(generation, name)))

    def publish(self, handle: str, key: str) -> None:
        self.change("publish", key, lambda: self.inner.publish(handle, key))

    def is_published(self, handle: str, key: str) -> bool:
        return self.inner.is_published(handle, key)

    def under_own_names(self, handles: Mapping[str, str]) -> Readable:
        return self._inner.under_own_names(handles)

    def staged_size(self, handle: str) -> int:
        return self.inner.staged_size(handle)

    def discard(self, handle: str, key: str = "") -> None:
        self.change("discard", handle, lambda: self.inner.discard(handle, key))

    def staged(self) -> list[str]:
        return self.inner.staged()

    def change(self, operation: str, key: str, action: Callable[[], T]) -> T:
        if self._dead:
            raise Crash(f"{operation} {key}: this process is dead")
        self.operations.append((operation, key))
        try:
            self.before(operation, key)
            result = action()
            self.after(operation, key)
        except Crash:
            self._dead = True
            raise
        return result


class FaultyStagedFile:
    def __init__(self, storage: FaultyStorage, handle: str, inner: StagedFile) -> None:
        self._storage = storage
        self._handle = handle
        self._inner = inner

    def write_at(self, offset: int, data: Bytes) -> None:
        self._storage.change("write_at", self._handle, lambda: self._inner.write_at(offset, data))

    def seal(self) -> str:
        return self._storage.change("seal", self._handle, self._inner.seal)

    def abandon(self) -> None:
        self._storage.change("abandon", self._handle, self._inner.abandon)
