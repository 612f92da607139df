"""A storage on which everything can be tried: what is changed is remembered here, and `inner` is only read.

So what an act would do is found by the very code that does it. Nothing can be staged: what uses it finishes and clears
away, and writes no checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distckpt.errors import ObjectMissing
from distckpt.storage.interface import Readable, StagedFile, Storage, fill


@dataclass(frozen=True, slots=True)
class _Published:
    handle: str
    size_bytes: int


class Rehearsal:
    """See `Storage`. For one thread."""

    def __init__(self, inner: Storage) -> None:
        self._inner = inner
        self._changed: dict[str, bytes | _Published | None] = {}  # None: deleted
        self._discarded: set[str] = set()

    def put_if_absent(self, key: str, data: bytes) -> bool:
        if self._exists(key):
            return False
        self.put(key, data)
        return True

    def put(self, key: str, data: bytes, *, private: bool = False) -> None:  # noqa: ARG002 - nobody sees it
        self._changed[key] = data

    def read(self, key: str) -> bytes:
        if key not in self._changed:
            return self._inner.read(key)
        content = self._found(key)
        assert isinstance(content, bytes), f"{key} was published just now: nobody has a reason to read it"
        return content

    def read_at(self, key: str, offset: int, length: int) -> bytes:
        if key not in self._changed:
            return self._inner.read_at(key, offset, length)
        return self.read(key)[offset : offset + length]

    def read_into(self, key: str, offset: int, buffers: Sequence[NDArray[np.uint8]]) -> int:
        return fill(buffers, self.read_at(key, offset, sum(buffer.size for buffer in buffers)))

    def size(self, key: str) -> int:
        if key not in self._changed:
            return self._inner.size(key)
        content = self._found(key)
        return len(content) if isinstance(content, bytes) else content.size_bytes

    def keys(self, prefix: str) -> list[str]:
        folder = f"{prefix}/" if prefix else ""
        there = {key for key in self._inner.keys(prefix) if key not in self._changed}
        there.update(key for key, content in self._changed.items() if content is not None and key.startswith(folder))
        return sorted(there)

    def delete(self, key: str) -> None:
        self._changed[key] = None

    def together(self) -> AbstractContextManager[None]:
        return nullcontext()

    def stage(self, generation: int, name: str) -> StagedFile:
        raise AssertionError(f"{generation}/{name}: nothing is staged in a rehearsal")

    def stage_link(self, handle: str, generation: int, name: str) -> str:
        raise AssertionError(f"{handle} to {generation}/{name}: nothing is staged in a rehearsal")

    def publish(self, handle: str, key: str) -> None:
        self._changed[key] = _Published(handle, self.staged_size(handle))

    def is_published(self, handle: str, key: str) -> bool:
        if handle in self._discarded:
            return False
        if key not in self._changed:
            return self._inner.is_published(handle, key)
        content = self._changed[key]
        return isinstance(content, _Published) and content.handle == handle

    def under_own_names(self, handles: Mapping[str, str]) -> Readable:
        return self._inner.under_own_names(handles)

    def staged_size(self, handle: str) -> int:
        if handle in self._discarded:
            raise ObjectMissing(f"size {handle}: there is no such object", handle)
        return self._inner.staged_size(handle)

    def discard(self, handle: str, key: str = "") -> None:
        if key and self.is_published(handle, key):
            self.delete(key)
        self._discarded.add(handle)

    def staged(self) -> list[str]:
        return [handle for handle in self._inner.staged() if handle not in self._discarded]

    def _exists(self, key: str) -> bool:
        try:
            self.size(key)
        except ObjectMissing:
            return False
        return True

    def _found(self, key: str) -> bytes | _Published:
        content = self._changed[key]
        if content is None:
            raise ObjectMissing(f"read {key}: there is no such object", key)
        return content
