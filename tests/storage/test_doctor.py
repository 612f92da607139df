"""The doctor finds each promise that a storage breaks, says what it means, and never fails itself."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from distckpt.errors import StorageError
from distckpt.storage.doctor import Finding, examine, read_speed, write_speed
from distckpt.storage.memory import MemoryStorage


def broken(storage: Any) -> list[Finding]:
    return [each for each in examine(storage) if each.verdict != "ok"]


class TakesTwice(MemoryStorage):
    """As a file system whose link(2) or conditional put replaces what is there."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        self.put(key, data)
        return True


class ListsLate(MemoryStorage):
    """As a file system that caches listings."""

    def __init__(self) -> None:
        super().__init__()
        self._cached: dict[str, list[str]] = {}

    def keys(self, prefix: str) -> list[str]:
        return self._cached.setdefault(prefix, super().keys(prefix))


class CopiesInsteadOfLinking(MemoryStorage):
    def is_published(self, handle: str, key: str) -> bool:
        return False


class ReadsOld(MemoryStorage):
    """As a network file system that caches contents."""

    def __init__(self) -> None:
        super().__init__()
        self._cached: dict[str, bytes] = {}

    def read(self, key: str) -> bytes:
        return self._cached.setdefault(key, super().read(key))


def test_a_storage_that_keeps_its_promises_is_found_sound() -> None:
    storage = MemoryStorage()
    assert broken(storage) == []
    assert storage.staged() == []


@pytest.mark.parametrize(
    ("storage", "check", "words"),
    [
        (TakesTwice(), "exclusive creation", "two chiefs would both believe that they have committed"),
        (ListsLate(), "listing", "a file that was just deleted is still in the listing"),
        (CopiesInsteadOfLinking(), "hard links", "is not the same file"),
        (ReadsOld(), "replace", "what was written is not what is read back"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, MemoryStorage) else "",
)
def test_a_broken_promise_is_found_and_its_meaning_said(storage: Any, check: str, words: str) -> None:
    found = {each.check: each.words for each in broken(storage)}
    assert words in found[check]


def test_a_storage_that_fails_at_any_operation_is_a_finding_and_no_error(faulty: Any) -> None:
    for number in count():
        storage = faulty.FaultyStorage(
            MemoryStorage(), before=faulty.at(number, StorageError("write x: I/O error (EIO)"))
        )
        found = broken(storage)
        if not found:
            break
        assert [each.words for each in found] == ["write x: I/O error (EIO)"]
    assert number > 50


def test_speeds_are_measured_on_bytes_that_were_really_written() -> None:
    storage = MemoryStorage()
    _, written = write_speed(storage, "speed")
    _, read = read_speed(storage, "speed")
    assert storage.size("speed") == 64 << 20
    assert written["bytes_per_s"] > 0
    assert read["bytes_per_s"] > 0
