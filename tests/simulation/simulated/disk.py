"""One process's view of the shared storage: dies with the process, stalls, refuses, leaves the outcome unclear."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from random import Random
from typing import Protocol

from distckpt.errors import OutcomeUnknown, StorageError
from distckpt.journal.reading import load
from distckpt.storage.interface import Bytes, Readable, StagedFile
from distckpt.storage.memory import MemoryStagedFile, MemoryStorage


class Crash(BaseException):
    """The process is dead: nothing that it would have done after this happens."""


class Trouble(Protocol):
    """What the world does to an operation."""

    def before(self, operation: str, key: str) -> None:
        """May raise Crash or StorageError, and may let others act first."""

    def after(self, operation: str, key: str) -> bool:
        """May raise Crash. True: the operation happened, and the caller is told that it is unknown."""


class Disk:
    """A Storage. `changed` hears of every name below the directory that others can see and that has changed."""

    def __init__(self, shared: MemoryStorage, trouble: Trouble, changed: Callable[[str], None]) -> None:
        self._shared = shared
        self._trouble = trouble
        self._changed = changed

    def put_if_absent(self, key: str, data: bytes) -> bool:
        self._trouble.before("put_if_absent", key)
        created = self._shared.put_if_absent(key, data)
        if self._trouble.after("put_if_absent", key):
            raise OutcomeUnknown(f"simulated: put_if_absent {key}")
        return created

    def put(self, key: str, data: bytes, *, private: bool = False) -> None:
        self._mutate("put", key, lambda: self._shared.put(key, data, private=private))

    def delete(self, key: str) -> None:
        self._mutate("delete", key, lambda: self._shared.delete(key))

    def publish(self, handle: str, key: str) -> None:
        self._mutate("publish", key, lambda: self._shared.publish(handle, key))

    def discard(self, handle: str, key: str = "") -> None:
        self._mutate("discard", handle, lambda: self._shared.discard(handle, key))
        if key:
            self._changed(key)

    def _mutate(self, operation: str, key: str, act: Callable[[], None]) -> None:
        self._trouble.before(operation, key)
        act()
        if operation != "discard":
            self._changed(key)
        if self._trouble.after(operation, key):
            raise StorageError(f"simulated: {operation} {key} has an unclear outcome", key)

    def together(self) -> AbstractContextManager[None]:
        return self._shared.together()

    def stage(self, generation: int, name: str) -> StagedFile:
        self._trouble.before("stage", name)
        return _StagedFile(self._shared.stage(generation, name), self._trouble)

    def stage_link(self, handle: str, generation: int, name: str) -> str:
        self._trouble.before("stage_link", name)
        linked = self._shared.stage_link(handle, generation, name)
        if self._trouble.after("stage_link", name):
            raise StorageError(f"simulated: stage_link {name} has an unclear outcome", name)
        return linked

    def read(self, key: str) -> bytes:
        return self._shared.read(key)

    def read_at(self, key: str, offset: int, length: int) -> bytes:
        return self._shared.read_at(key, offset, length)

    def size(self, key: str) -> int:
        return self._shared.size(key)

    def keys(self, prefix: str) -> list[str]:
        return self._shared.keys(prefix)

    def is_published(self, handle: str, key: str) -> bool:
        return self._shared.is_published(handle, key)

    def under_own_names(self, handles: Mapping[str, str]) -> Readable:
        return self._shared.under_own_names(handles)

    def staged_size(self, handle: str) -> int:
        return self._shared.staged_size(handle)

    def staged(self) -> list[str]:
        return self._shared.staged()


def rot(storage: MemoryStorage, key: str, rng: Random) -> tuple[MemoryStagedFile, set[str]]:
    """Flips a bit of the file that `key` names, under all its names: its own, and those that it was linked to. Returns
    it, and the checkpoints that have it, those too that are committed and not visible yet.
    """
    file = storage._files[key]
    file._data[rng.randrange(file.size)] ^= 1
    for name, its in storage._files.items():
        if its is file:
            storage._objects[name] = file.content()
    live = load(storage).state.live
    return file, {each.name for each in live if any(storage.holds(its.handle, file) for its in each.files)}


class _StagedFile:
    def __init__(self, file: StagedFile, trouble: Trouble) -> None:
        self._file = file
        self._trouble = trouble

    def write_at(self, offset: int, data: Bytes) -> None:
        self._trouble.before("write_at", "")
        self._file.write_at(offset, data)

    def seal(self) -> str:
        self._trouble.before("seal", "")
        return self._file.seal()

    def abandon(self) -> None:
        self._trouble.before("abandon", "")
        self._file.abandon()
