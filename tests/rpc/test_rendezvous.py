"""The file through which workers find the coordinator and get their keys."""

from __future__ import annotations

import json
import stat
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distckpt.errors import CorruptData, DirectoryMismatch
from distckpt.rpc.rendezvous import FOLDER, SIZE_BYTES_MAX, Rendezvous, read_rendezvous, write_rendezvous
from distckpt.storage.memory import MemoryStorage
from distckpt.storage.posix import PosixStorage

KEY = f"{FOLDER}/7-{'0' * 32}.json"


@pytest.fixture
def meeting(keys: Any) -> Rendezvous:
    return Rendezvous("chief.example:4711", "job", 7, keys[1])


def test_what_was_written_is_read_by_the_owner_and_by_nobody_else(tmp_path: Path, meeting: Rendezvous) -> None:
    storage = PosixStorage.create(tmp_path)
    key = write_rendezvous(storage, meeting)
    assert stat.S_IMODE((tmp_path / key).stat().st_mode) == 0o600
    assert read_rendezvous(PosixStorage(tmp_path), key) == meeting


def test_without_keys_it_tells_the_address_alone() -> None:
    storage = MemoryStorage()
    meeting = Rendezvous("[::1]:80", "job", 7)
    assert read_rendezvous(storage, write_rendezvous(storage, meeting)) == meeting


def test_names_are_fresh_and_earlier_generations_are_cleared_away(meeting: Rendezvous) -> None:
    storage = MemoryStorage()
    storage.put(f"{FOLDER}/a file of somebody", b"")
    first = write_rendezvous(storage, meeting)
    second = write_rendezvous(storage, meeting)
    later = write_rendezvous(storage, Rendezvous("a:1", "job", 8))
    assert first != second
    assert storage.keys(FOLDER) == sorted([later, f"{FOLDER}/a file of somebody"])


def test_a_file_that_is_not_there_tells_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DirectoryMismatch, match="same shared directory on all workers") as caught:
        read_rendezvous(PosixStorage(tmp_path), KEY, str(tmp_path))
    assert KEY in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("key", ["", "../7-x.json", "ckpt-1.index", f"{FOLDER}/../../etc/passwd", f"{FOLDER}/7-.json"])
def test_a_name_that_is_none_of_ours_is_not_even_opened(key: str) -> None:
    with pytest.raises(CorruptData, match="is no name of a rendezvous file"):
        read_rendezvous(MemoryStorage(), key)


HOSTILE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a list": lambda _: [],
    "a number": lambda _: 3,
    "empty": lambda _: {},
    "another format": lambda good: good | {"format": 2},
    "no address": lambda good: {name: value for name, value in good.items() if name != "address"},
    "an address without port": lambda good: good | {"address": "chief"},
    "an address with a path": lambda good: good | {"address": "unix:/etc/x:1"},
    "an address that is a number": lambda good: good | {"address": 5},
    "a job that is a list": lambda good: good | {"job": []},
    "a generation that is a flag": lambda good: good | {"generation": True},
    "a generation that is text": lambda good: good | {"generation": "7"},
    "another generation": lambda good: good | {"generation": 6},
    "workers that are text": lambda good: good | {"workers": "abc"},
    "a worker without key": lambda good: good | {"workers": [{"certificate": "x"}]},
    "a key that is no text": lambda good: good | {"workers": [good["workers"][0] | {"key": 5}]},
    "a key that is no ASCII": lambda good: good | {"workers": [good["workers"][0] | {"key": "\u00fc"}]},
    "no authority": lambda good: good | {"authority": None},
}


@pytest.mark.parametrize("what", HOSTILE)
def test_content_that_is_not_ours_is_refused_without_showing_a_key(what: str, meeting: Rendezvous) -> None:
    storage = MemoryStorage()
    key = write_rendezvous(storage, meeting)
    storage.put(key, json.dumps(HOSTILE[what](json.loads(storage.read(key)))).encode())
    with pytest.raises(CorruptData) as caught:
        read_rendezvous(storage, key)
    assert caught.value.path == key
    assert "PRIVATE" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("content", [b"", b" " * (SIZE_BYTES_MAX + 1), b"[" * 100_000], ids=["empty", "huge", "deep"])
def test_content_of_absurd_size_is_refused(content: bytes) -> None:
    storage = MemoryStorage()
    storage.put(KEY, content)
    with pytest.raises(CorruptData):
        read_rendezvous(storage, KEY)


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=300))
def test_noise_is_refused(content: bytes) -> None:
    storage = MemoryStorage()
    storage.put(KEY, content)
    with pytest.raises(CorruptData):
        read_rendezvous(storage, KEY)
