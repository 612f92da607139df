"""What every storage promises (distckpt/storage/interface.py), asked of each."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from distckpt.errors import ObjectMissing, StorageError
from distckpt.storage.interface import Storage

BAD_KEYS = ["", "/", "/etc/passwd", "a//b", "a/", "./a", "a/./b", "..", "a/../b", "../x", "a\0b", "n" * 256, "d/" * 600]
OWN_KEYS = [".distckpt/staging", ".distckpt/staging/1/x", ".distckpt/temporary/x"]


def staged(storage: Storage, generation: int, name: str, data: bytes) -> str:
    file = storage.stage(generation, name)
    file.write_at(0, data)
    return file.seal()


def test_put_if_absent_creates_once_and_never_replaces(storage: Storage) -> None:
    assert storage.put_if_absent("a/b", b"first") is True
    assert storage.put_if_absent("a/b", b"second") is False
    assert storage.put_if_absent("a/b", b"first") is False, "the same content is another's all the same"
    assert storage.read("a/b") == b"first"


def test_put_creates_and_replaces(storage: Storage) -> None:
    storage.put("a", b"first")
    storage.put("a", b"2")
    assert storage.read("a") == b"2"
    assert storage.put_if_absent("a", b"3") is False


def test_one_of_many_threads_wins_a_key(storage: Storage) -> None:
    with ThreadPoolExecutor(8) as pool:
        for slot in range(20):
            won = list(pool.map(lambda n, s=slot: storage.put_if_absent(f"slots/{s}", b"%d" % n), range(8)))
            assert won.count(True) == 1
            assert storage.read(f"slots/{slot}") == b"%d" % won.index(True)


def test_an_empty_object_is_an_object(storage: Storage) -> None:
    storage.put("a", b"")
    assert storage.put_if_absent("b", b"") is True
    assert (storage.read("a"), storage.size("b"), storage.keys("")) == (b"", 0, ["a", "b"])


@pytest.mark.parametrize("operation", ["read", "size", "read_at", "read_into"])
@pytest.mark.parametrize("key", ["nothing", "no/such/folder", "file/below"])
def test_what_is_absent_is_reported_as_missing_by_name(storage: Storage, operation: str, key: str) -> None:
    storage.put("file", b"x")
    arguments = {"read_at": (0, 1), "read_into": (0, [np.empty(1, np.uint8)])}.get(operation, ())
    with pytest.raises(ObjectMissing, match=key):
        getattr(storage, operation)(key, *arguments)


def test_a_folder_is_no_object(storage: Storage) -> None:
    storage.put("folder/a", b"x")
    with pytest.raises(ObjectMissing):
        storage.read("folder")


def test_read_at_gives_what_is_there_and_no_more(storage: Storage) -> None:
    storage.put("a", bytes(range(10)))
    assert storage.read_at("a", 3, 4) == bytes([3, 4, 5, 6])
    assert storage.read_at("a", 8, 100) == bytes([8, 9])
    assert storage.read_at("a", 10, 1) == b""
    assert storage.read_at("a", 99, 1) == b""
    assert storage.size("a") == 10


@pytest.mark.parametrize(("offset", "found"), [(0, [0, 1, 2, 3]), (8, [8, 9]), (10, []), (99, [])])
def test_read_into_fills_what_is_there_and_no_more(storage: Storage, offset: int, found: list[int]) -> None:
    storage.put("a", bytes(range(10)))
    buffer = np.full(4, 255, np.uint8)
    assert storage.read_into("a", offset, [buffer[:1], buffer[1:1], buffer[1:]]) == len(found)
    assert buffer.tolist() == found + [255] * (4 - len(found))


def test_read_into_fills_more_buffers_than_a_system_call_takes(storage: Storage) -> None:
    content = np.random.default_rng(0).integers(0, 256, 5000, np.uint8)
    storage.put("a", content.tobytes())
    buffer = np.zeros(6000, np.uint8)
    assert storage.read_into("a", 0, [buffer[start : start + 2] for start in range(0, 6000, 2)]) == content.size
    assert np.array_equal(buffer[:5000], content)
    assert not buffer[5000:].any()


def test_keys_are_all_below_a_folder_sorted(storage: Storage) -> None:
    for key in ["b", "a/2", "a/1", "a/c/3", "ab", ".distckpt/journal/1"]:
        storage.put(key, b"")
    assert storage.keys("") == [".distckpt/journal/1", "a/1", "a/2", "a/c/3", "ab", "b"]
    assert storage.keys("a") == ["a/1", "a/2", "a/c/3"]
    assert storage.keys("a/c") == ["a/c/3"]
    assert storage.keys("nowhere") == []
    assert storage.keys("b") == [], "an object is no folder"


def test_delete_removes_and_may_be_repeated(storage: Storage) -> None:
    storage.put("a/b", b"x")
    storage.delete("a/b")
    storage.delete("a/b")
    storage.delete("never/there")
    assert storage.keys("") == []
    assert storage.put_if_absent("a/b", b"y") is True


@pytest.mark.parametrize("key", BAD_KEYS + OWN_KEYS)
def test_a_key_that_could_leave_the_directory_is_refused_by_all(storage: Storage, key: str) -> None:
    calls = [
        lambda: storage.put(key, b""),
        lambda: storage.put_if_absent(key, b""),
        lambda: storage.read(key),
        lambda: storage.read_at(key, 0, 1),
        lambda: storage.size(key),
        lambda: storage.delete(key),
        lambda: storage.publish("1/x", key),
    ]
    for call in calls + ([lambda: storage.keys(key)] if key else []):
        with pytest.raises(ValueError):
            call()


@pytest.mark.parametrize("handle", ["", "x", "/x", "1/", "1/../2", "../1/x", "one/x", "1/x/y", "1//x", "-1/x"])
def test_a_handle_that_no_seal_returned_is_refused(storage: Storage, handle: str) -> None:
    for call in (
        lambda: storage.publish(handle, "a"),
        lambda: storage.discard(handle),
        lambda: storage.staged_size(handle),
    ):
        with pytest.raises(ValueError):
            call()


@pytest.mark.parametrize("name", ["", "a/b", "..", "../2/x"])
def test_a_staged_name_is_one_component(storage: Storage, name: str) -> None:
    with pytest.raises(ValueError):
        storage.stage(1, name)


def test_a_staged_file_is_seen_only_once_published(storage: Storage) -> None:
    handle = staged(storage, 3, "w0-r1", b"content")
    assert storage.keys("") == []
    assert storage.staged() == [handle] == ["3/w0-r1"]
    assert storage.staged_size(handle) == 7
    storage.publish(handle, "ckpt-1.data-00000-of-00001")
    assert storage.read("ckpt-1.data-00000-of-00001") == b"content"
    assert storage.is_published(handle, "ckpt-1.data-00000-of-00001")
    storage.discard(handle)
    assert storage.staged() == []
    with pytest.raises(ObjectMissing, match="3/w0-r1"):
        storage.staged_size(handle)
    assert storage.read("ckpt-1.data-00000-of-00001") == b"content"


def test_a_file_that_was_linked_lives_under_either_handle(storage: Storage) -> None:
    first = staged(storage, 3, "r1", b"content")
    storage.publish(first, "ckpt-1.data")
    second = storage.stage_link(first, 3, "r2")
    assert second == "3/r2"
    assert storage.staged() == [first, second]
    storage.discard(first)
    storage.delete("ckpt-1.data")
    assert storage.staged_size(second) == 7
    storage.publish(second, "ckpt-2.data")
    assert storage.is_published(second, "ckpt-2.data")
    assert storage.read("ckpt-2.data") == b"content"


def test_what_is_gone_cannot_be_linked_nor_a_name_be_taken_twice(storage: Storage) -> None:
    first, other = staged(storage, 3, "r1", b"content"), staged(storage, 3, "r2", b"other")
    with pytest.raises(StorageError, match=r"r[12]"):
        storage.stage_link(first, 3, "r2")
    storage.discard(first)
    with pytest.raises(ObjectMissing, match="r1"):
        storage.stage_link(first, 3, "r3")
    assert storage.staged() == [other]
    assert storage.staged_size(other) == 5


def test_a_file_is_discarded_with_the_name_that_is_its_own_and_with_no_other(storage: Storage) -> None:
    first, second = staged(storage, 1, "x", b"first"), staged(storage, 2, "x", b"second")
    storage.publish(first, "a")
    storage.publish(second, "b")
    storage.discard(first, "b")
    assert storage.read("b") == b"second"
    storage.discard(second, "b")
    storage.discard(second, "b")
    assert storage.keys("") == ["a"]
    assert storage.staged() == []


def test_whatever_becomes_of_the_visible_name_publishing_again_heals_it(storage: Storage) -> None:
    first, second = staged(storage, 1, "x", b"first"), staged(storage, 2, "x", b"second")
    storage.publish(second, "a")
    for harm in (lambda: storage.delete("a"), lambda: storage.put("a", b"other"), lambda: storage.publish(first, "a")):
        harm()
        assert not storage.is_published(second, "a")
        storage.publish(second, "a")
        assert storage.is_published(second, "a")
        assert storage.read("a") == b"second"


def test_under_own_names_a_key_is_the_sealed_file_whatever_has_its_name(storage: Storage) -> None:
    handle = staged(storage, 1, "x", b"content")
    gone = staged(storage, 1, "y", b"gone")
    storage.publish(handle, "a")
    storage.put("other", b"o")
    buffer = np.empty(3, np.uint8)
    for harm in (lambda: storage.delete("a"), lambda: storage.put("a", b"another")):
        harm()
        reading = storage.under_own_names({"a": handle, "b": gone})
        assert (reading.read("a"), reading.size("a"), reading.read_at("a", 3, 9)) == (b"content", 7, b"tent")
        assert (reading.read_into("a", 1, [buffer]), bytes(buffer)) == (3, b"ont")
        assert reading.read("other") == b"o"
    storage.put("b", b"of somebody else")
    storage.discard(gone)
    with pytest.raises(ObjectMissing, match="b"):
        storage.under_own_names({"b": gone}).read("b")
    with pytest.raises(ValueError, match="component"):
        storage.under_own_names({"a": "../../secret"}).read("a")


def test_writes_at_any_position_from_many_threads_make_one_file(storage: Storage) -> None:
    file = storage.stage(1, "x")
    pieces = [(offset, bytes([offset % 251]) * 100) for offset in range(0, 10_000, 100)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda piece: file.write_at(*piece), reversed(pieces)))
    storage.publish(file.seal(), "x")
    assert storage.read("x") == b"".join(data for _, data in pieces)


def test_arrays_are_written_as_bytes_are_and_gaps_are_zero(storage: Storage) -> None:
    file = storage.stage(1, "x")
    file.write_at(4, np.arange(3, dtype=np.uint8))
    file.write_at(0, b"")
    file.write_at(9, np.zeros(0, dtype=np.uint8))
    storage.publish(file.seal(), "x")
    assert storage.read("x") == b"\0\0\0\0\0\1\2"


def test_publish_replaces_and_may_be_repeated(storage: Storage) -> None:
    storage.put("a", b"old")
    handle = staged(storage, 1, "x", b"new")
    storage.publish(handle, "a")
    storage.publish(handle, "a")
    assert storage.read("a") == b"new"


def test_publish_of_what_is_nowhere_is_missing_by_name(storage: Storage) -> None:
    handle = staged(storage, 1, "x", b"new")
    storage.discard(handle)
    storage.discard(handle)
    with pytest.raises(ObjectMissing, match=r"1/x"):
        storage.publish(handle, "a")
    assert storage.keys("") == []


def test_a_sealed_file_takes_no_more(storage: Storage) -> None:
    file = storage.stage(1, "x")
    assert file.seal() == file.seal()
    with pytest.raises(StorageError, match="sealed"):
        file.write_at(0, b"late")


def test_an_abandoned_file_is_gone_and_stays_gone(storage: Storage) -> None:
    file = storage.stage(1, "x")
    file.write_at(0, b"data")
    file.abandon()
    file.abandon()
    assert storage.staged() == []
    with pytest.raises(StorageError, match="abandoned"):
        file.write_at(0, b"more")
    with pytest.raises(StorageError, match="abandoned"):
        file.seal()
    assert storage.stage(1, "x").seal() == "1/x"


def test_abandon_after_seal_discards_and_leaves_what_was_published(storage: Storage) -> None:
    sealed, published = storage.stage(1, "sealed"), storage.stage(1, "published")
    sealed.seal()
    storage.publish(published.seal(), "a")
    sealed.abandon()
    published.abandon()
    assert storage.staged() == []
    assert storage.read("a") == b""


def test_a_name_is_staged_once(storage: Storage) -> None:
    storage.stage(1, "x")
    storage.stage(2, "x")
    with pytest.raises(StorageError, match="1/x"):
        storage.stage(1, "x")
    assert storage.staged() == ["1/x", "2/x"]


def test_a_file_that_another_process_discarded_is_not_sealed_and_its_name_is_the_others(storage: Storage) -> None:
    """As a new generation does to those before it, whose writers may still breathe."""
    late = storage.stage(1, "x")
    storage.discard("1/x")
    late.write_at(0, b"late")
    with pytest.raises(StorageError, match=r"removed|No such file"):
        late.seal()
    abandoned = storage.stage(1, "y")
    storage.discard("1/y")
    handle = staged(storage, 1, "y", b"another's")
    abandoned.abandon()
    assert storage.staged_size(handle) == 9
