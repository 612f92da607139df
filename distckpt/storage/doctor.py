"""Does this storage do what distckpt asks of one? Each promise of `Storage` that the protocol rests on is tried.

What cannot be tried is whether a write survives a power loss, and what other machines see: `fsync` is called and
measured, and a network file system is to be tried from each machine. No locks are tried: none are used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

import numpy as np

from distckpt.errors import DistckptError, ObjectMissing
from distckpt.storage.interface import Storage
from distckpt.text import size

Verdict = Literal["ok", "warning", "broken"]

_FOLDER = "tried"
_LISTED = 20
_SMALL_WRITES = 11
_CHUNK_BYTES = 8 << 20
SPEED_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Finding:
    """`words` are for people, and say what is wrong; `figures` are for programs: bytes, seconds, counts."""

    check: str
    verdict: Verdict
    words: str
    figures: Mapping[str, float] = field(default_factory=dict)


class _Wrong(Exception):
    """The storage does something else than it must."""


def examine(storage: Storage) -> Iterator[Finding]:
    """Tries one thing after the other in `storage`, which should be empty and may be thrown away afterwards.

    Raises nothing: where a thing cannot be done, that is what was found.
    """
    for check, attempt in _CHECKS.items():
        yield found(check, lambda attempt=attempt: ("ok", *attempt(storage)))  # type: ignore[misc]  # the default binds it


def found(check: str, attempt: Callable[[], tuple[Verdict, str, Mapping[str, float]]]) -> Finding:
    """What `attempt` found, or why it could not be made."""
    try:
        return Finding(check, *attempt())
    except (DistckptError, OSError, _Wrong) as error:
        return Finding(check, "broken", " ".join(str(error).split()))


_Attempt = tuple[str, Mapping[str, float]]


def _replaces(storage: Storage) -> _Attempt:
    key = f"{_FOLDER}/replaced"
    for content in (b"first", b"second"):
        storage.put(key, content)
        _require(storage.read(key) == content, "what was written is not what is read back")
    storage.delete(key)
    _require(_is_absent(storage, key), "what was deleted can still be read")
    return "a file is replaced in one step, and read as it was written", {}


def _creates_once(storage: Storage) -> _Attempt:
    key = f"{_FOLDER}/once"
    _require(storage.put_if_absent(key, b"first"), "a name that is free cannot be taken")
    _require(
        not storage.put_if_absent(key, b"second") and storage.read(key) == b"first",
        "a name that is taken can be taken again (link(2) does not fail where the name exists): two chiefs would both "
        "believe that they have committed. Use another file system",
    )
    return "a name is taken once", {}


def _publishes(storage: Storage) -> _Attempt:
    key = f"{_FOLDER}/published"
    handles = []
    for content in (b"one", b"two"):
        file = storage.stage(1, content.decode())
        file.write_at(0, content)
        handles.append(file.seal())
        storage.publish(handles[-1], key)
        _require(
            storage.is_published(handles[-1], key) and storage.read(key) == content,
            "a second name of a file (a hard link) is not the same file, or does not replace another: what a frozen "
            "chief may do to a name when it wakes could not be put right. Use a file system with hard links",
        )
    _require(not storage.is_published(handles[0], key), "a name that was replaced is still the old file's")
    for handle in handles:
        storage.discard(handle)
    _require(storage.read(key) == b"two", "a file is lost with one of its two names")
    _require(storage.staged() == [], "a name that was removed is still listed")
    return "a file has two names, and each can be replaced or removed", {}


def _lists(storage: Storage) -> _Attempt:
    keys = [f"{_FOLDER}/listed/{number:02}" for number in range(_LISTED)]
    for key in keys:
        storage.put(key, b"")
    _require(storage.keys(f"{_FOLDER}/listed") == keys, "a file that was just written is not in the listing")
    for key in keys[::2]:
        storage.delete(key)
    _require(storage.keys(f"{_FOLDER}/listed") == keys[1::2], "a file that was just deleted is still in the listing")
    return "a listing shows what was written, and not what was deleted", {}


def _small_writes(storage: Storage) -> _Attempt:
    times = []
    for number in range(_SMALL_WRITES):
        begun = time.perf_counter()
        storage.put(f"{_FOLDER}/small/{number}", b"a record of the journal")
        times.append(time.perf_counter() - begun)
    typical = median(times)
    return f"{typical * 1e3:.1f} ms for a small file, durable; a commit takes some ten", {"seconds": typical}


def write_speed(storage: Storage, key: str) -> _Attempt:
    """Writes SPEED_BYTES and makes them durable; they are visible as `key` then."""
    chunk = np.random.default_rng(0).integers(0, 256, _CHUNK_BYTES, np.uint8)  # not to be compressed
    begun = time.perf_counter()
    file = storage.stage(1, "speed")
    for offset in range(0, SPEED_BYTES, _CHUNK_BYTES):
        file.write_at(offset, chunk)
    handle = file.seal()
    rate = SPEED_BYTES / (time.perf_counter() - begun)
    storage.publish(handle, key)
    storage.discard(handle)
    return f"{size(int(rate))} per second, durable ({size(SPEED_BYTES)} written by one thread)", {"bytes_per_s": rate}


def read_speed(storage: Storage, key: str) -> _Attempt:
    """Reads what `write_speed` wrote."""
    buffer = np.empty(_CHUNK_BYTES, np.uint8)
    begun = time.perf_counter()
    for offset in range(0, SPEED_BYTES, _CHUNK_BYTES):
        _require(storage.read_into(key, offset, [buffer]) == _CHUNK_BYTES, "a file is shorter than what was written")
    rate = SPEED_BYTES / (time.perf_counter() - begun)
    return f"{size(int(rate))} per second (by one thread, the kernel asked to forget it first)", {"bytes_per_s": rate}


_CHECKS: Mapping[str, Callable[[Storage], _Attempt]] = {
    "replace": _replaces,
    "exclusive creation": _creates_once,
    "hard links": _publishes,
    "listing": _lists,
    "small writes": _small_writes,
}


def _is_absent(storage: Storage, key: str) -> bool:
    try:
        storage.size(key)
    except ObjectMissing:
        return True
    return False


def _require(condition: bool, otherwise: str) -> None:  # noqa: FBT001 - an assertion's shape
    if not condition:
        raise _Wrong(otherwise)
