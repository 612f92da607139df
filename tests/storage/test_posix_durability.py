"""Which system call comes before which.

Nothing is given a name before its content is on disk, nor reported before its name is. Every call is recorded as it is
made; the calls themselves are real.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from distckpt.errors import ObjectMissing, OutcomeUnknown, StorageError, StorageNoSpace
from distckpt.storage.posix import PosixStorage

ONE_NAME = "temporary/*"


class Recorder:
    """Records calls as "name path ..." with paths below the directory, and the temporary file as `temporary/*`."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.root = root
        self.faults: dict[str, Callable[[], None]] = {}
        for name in ("fsync", "pwrite"):
            monkeypatch.setattr(os, name, self._recorded(name, getattr(os, name), 1))
        for name in ("link", "rename", "replace"):
            monkeypatch.setattr(os, name, self._recorded(name, getattr(os, name), 2))
        for name in ("mkdir", "unlink"):
            monkeypatch.setattr(os, name, self._recorded(name, getattr(os, name), 1))

    def _recorded(self, name: str, real: Callable[..., object], paths: int) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            told = [name, *(self._told(each) for each in arguments[:paths])]
            self.calls.append(" ".join(told))
            if " ".join(told) in self.faults:
                self.faults[" ".join(told)]()
            return real(*arguments, **options)

        return call

    def _told(self, argument: object) -> str:
        path = Path(f"/proc/self/fd/{argument}").readlink() if isinstance(argument, int) else Path(str(argument))
        if not path.is_relative_to(self.root):
            return str(path)
        told = path.relative_to(self.root).as_posix().removeprefix(".distckpt/")
        return ONE_NAME if told.startswith("temporary/") else told


def fails(number: int) -> Callable[[], None]:
    def fail() -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.fixture
def storage(tmp_path: Path) -> PosixStorage:
    storage = PosixStorage.create(tmp_path / "job")
    storage.put("journal/0", b"so that the folders exist")
    storage.put("top", b"")
    storage.stage(1, "first").seal()
    return storage


@pytest.fixture
def recorder(storage: PosixStorage, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return Recorder(storage.directory, monkeypatch)


def test_put_if_absent_syncs_the_file_links_it_and_syncs_the_folder(storage: PosixStorage, recorder: Recorder) -> None:
    assert storage.put_if_absent("journal/1", b"x")
    assert recorder.calls == [
        f"pwrite {ONE_NAME}",
        f"fsync {ONE_NAME}",
        f"link {ONE_NAME} journal/1",
        f"unlink {ONE_NAME}",
        "fsync journal",
    ]


def test_put_syncs_the_file_renames_it_and_syncs_the_folder(storage: PosixStorage, recorder: Recorder) -> None:
    storage.put("top", b"x")
    assert recorder.calls[:4] == [
        f"pwrite {ONE_NAME}",
        f"fsync {ONE_NAME}",
        f"rename {ONE_NAME} top".replace("rename", "replace"),
        "fsync .",
    ]


def test_a_new_folder_is_durable_in_its_parents_before_anything_is_in_it(
    storage: PosixStorage, recorder: Recorder
) -> None:
    storage.put_if_absent("a/b/c", b"x")
    assert recorder.calls[2:] == [
        "mkdir a",
        "fsync .",
        "mkdir a/b",
        "fsync a",
        f"link {ONE_NAME} a/b/c",
        f"unlink {ONE_NAME}",
        "fsync a/b",
    ]


def test_a_sealed_file_is_durable_and_so_is_its_name(storage: PosixStorage, recorder: Recorder) -> None:
    file = storage.stage(1, "shard")
    file.write_at(0, b"x")
    file.seal()
    assert recorder.calls == ["pwrite staging/1/shard", "fsync staging/1/shard", "fsync staging/1"]


def test_publish_links_renames_over_and_syncs_the_folder(storage: PosixStorage, recorder: Recorder) -> None:
    storage.publish("1/first", "ckpt-1.index")
    assert recorder.calls == [
        f"link staging/1/first {ONE_NAME}",
        f"replace {ONE_NAME} ckpt-1.index",
        f"unlink {ONE_NAME}",
        "fsync .",
    ]


def test_publishing_again_makes_sure_that_the_first_time_is_durable(storage: PosixStorage, recorder: Recorder) -> None:
    storage.publish("1/first", "ckpt-1.index")
    recorder.calls.clear()
    storage.publish("1/first", "ckpt-1.index")
    assert "fsync ." in recorder.calls


def test_delete_is_durable(storage: PosixStorage, recorder: Recorder) -> None:
    storage.delete("top")
    assert recorder.calls == ["unlink top", "fsync ."]


def test_what_is_changed_together_is_made_durable_once_at_the_end(storage: PosixStorage, recorder: Recorder) -> None:
    storage.stage(1, "second").seal()
    recorder.calls.clear()
    with storage.together():
        storage.publish("1/first", "a")
        storage.publish("1/first", "b")
        storage.delete("top")
        storage.discard("1/second")
        assert [call for call in recorder.calls if call.startswith("fsync")] == []
    assert recorder.calls[-2:] == ["fsync .", "fsync staging/1"]
    storage.delete("a")
    assert recorder.calls[-2:] == ["unlink a", "fsync ."]


def test_what_is_put_while_others_are_changed_together_is_durable_at_once(
    storage: PosixStorage, recorder: Recorder
) -> None:
    with storage.together():
        storage.put("a", b"x")
        assert recorder.calls[-2:] == ["fsync .", f"unlink {ONE_NAME}"]


def test_what_was_changed_before_an_error_is_made_durable_too(storage: PosixStorage, recorder: Recorder) -> None:
    with pytest.raises(ObjectMissing), storage.together():  # noqa: PT012 - the second raises
        storage.delete("top")
        storage.publish("1/gone", "a")
    assert recorder.calls[-1] == "fsync ."


def test_an_fsync_at_the_end_of_what_is_changed_together_that_fails_is_told(
    storage: PosixStorage, recorder: Recorder
) -> None:
    recorder.faults["fsync ."] = fails(errno.EIO)
    with pytest.raises(StorageError, match="names durable"), storage.together():
        storage.delete("top")


# ----------------------------------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_apart_with_the_key(storage: PosixStorage, recorder: Recorder, number: int) -> None:
    recorder.faults[f"pwrite {ONE_NAME}"] = fails(number)
    for call in (lambda: storage.put("ckpt-7", b"x"), lambda: storage.put_if_absent("ckpt-7", b"x")):
        with pytest.raises(StorageNoSpace, match=r"ckpt-7: (No space|Disk quota)"):
            call()
    assert "ckpt-7" not in storage.keys("")
    assert list((storage.directory / ".distckpt/temporary").iterdir()) == []


def test_a_full_disk_in_the_middle_of_a_shard_spoils_it_and_abandon_clears_it(
    storage: PosixStorage, recorder: Recorder
) -> None:
    file = storage.stage(1, "shard")
    file.write_at(0, b"begun")
    recorder.faults["pwrite staging/1/shard"] = fails(errno.ENOSPC)
    with pytest.raises(StorageNoSpace, match="1/shard"):
        file.write_at(5, b"more")
    recorder.faults.clear()
    for call in (lambda: file.write_at(5, b"more"), file.seal):
        with pytest.raises(StorageError, match="failed: stage a new one"):
            call()
    file.abandon()
    assert storage.staged() == ["1/first"]


def test_an_fsync_that_failed_is_never_tried_again(storage: PosixStorage, recorder: Recorder) -> None:
    file = storage.stage(1, "shard")
    file.write_at(0, b"x")
    recorder.faults["fsync staging/1/shard"] = fails(errno.EIO)
    with pytest.raises(StorageError, match=r"seal 1/shard: Input/output error \(EIO\)"):
        file.seal()
    recorder.faults.clear()
    with pytest.raises(StorageError, match="failed"):
        file.seal()
    assert recorder.calls.count("fsync staging/1/shard") == 1


def test_a_short_write_is_continued(storage: PosixStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, data[:7], offset))
    file = storage.stage(1, "shard")
    file.write_at(3, bytes(range(100)))
    storage.publish(file.seal(), "x")
    assert storage.read("x") == b"\0\0\0" + bytes(range(100))


def test_a_write_that_writes_nothing_ends_in_an_error_not_in_a_loop(
    storage: PosixStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: 0)
    with pytest.raises(StorageError, match="nothing more was written"):
        storage.put("x", b"data")


def test_a_short_read_is_continued(storage: PosixStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.put("x", bytes(range(100)))
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, length, offset: real(fd, min(length, 7), offset))
    assert storage.read("x") == bytes(range(100))
    assert storage.read_at("x", 10, 50) == bytes(range(10, 60))


def test_a_short_read_into_several_buffers_is_continued(storage: PosixStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.put("x", bytes(range(100)))
    real = os.preadv

    def short(fd: int, views: list[memoryview], offset: int) -> int:
        return real(fd, [views[0][:7]] if len(views[0]) > 7 else views[:2], offset)

    monkeypatch.setattr(os, "preadv", short)
    buffer = np.zeros(100, np.uint8)
    assert storage.read_into("x", 10, [buffer[:20], buffer[20:23], buffer[23:]]) == 90
    assert buffer.tolist() == [*range(10, 100), *[0] * 10]


def test_a_file_system_without_hard_links_is_named_as_the_trouble(storage: PosixStorage, recorder: Recorder) -> None:
    recorder.faults[f"link {ONE_NAME} journal/1"] = fails(errno.EPERM)
    with pytest.raises(StorageError, match="hard links"):
        storage.put_if_absent("journal/1", b"x")


def test_a_link_whose_answer_was_lost_and_repeated_is_ours(
    storage: PosixStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As NFS does: the server made the link, the answer got lost, the repeated request finds the name taken."""
    real = os.link

    def twice(source: Path, target: Path) -> None:
        real(source, target)
        real(source, target)

    monkeypatch.setattr(os, "link", twice)
    assert storage.put_if_absent("journal/1", b"ours") is True
    assert storage.put_if_absent("journal/1", b"ours") is False, "and not the second time"


@pytest.mark.parametrize("number", [errno.EIO, errno.ETIMEDOUT, errno.ESTALE])
def test_an_unclear_link_is_settled_by_looking(
    storage: PosixStorage, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    real = os.link

    def made_but_not_answered(source: Path, target: Path) -> None:
        real(source, target)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", made_but_not_answered)
    assert storage.put_if_absent("journal/1", b"ours") is True
    monkeypatch.setattr(os, "link", lambda source, target: fails(number)())
    assert storage.put_if_absent("journal/1", b"other") is False
    with pytest.raises(StorageError, match="journal/2"):
        storage.put_if_absent("journal/2", b"never made")
    assert storage.keys("journal") == ["journal/0", "journal/1"]


def test_after_an_unclear_link_that_did_not_happen_it_cannot_happen_any_more(
    storage: PosixStorage, recorder: Recorder
) -> None:
    recorder.faults[f"link {ONE_NAME} journal/1"] = fails(errno.EIO)
    with pytest.raises(StorageError):
        storage.put_if_absent("journal/1", b"x")
    assert recorder.calls.index(f"unlink {ONE_NAME}") == recorder.calls.index(f"link {ONE_NAME} journal/1") + 1


def test_an_unclear_link_that_cannot_be_looked_at_is_unknown(storage: PosixStorage, recorder: Recorder) -> None:
    recorder.faults[f"link {ONE_NAME} journal/1"] = fails(errno.EIO)
    recorder.faults[f"unlink {ONE_NAME}"] = fails(errno.EIO)
    with pytest.raises(OutcomeUnknown, match="journal/1"):
        storage.put_if_absent("journal/1", b"x")


def test_a_link_whose_folder_cannot_be_synced_is_unknown(storage: PosixStorage, recorder: Recorder) -> None:
    recorder.faults["fsync journal"] = fails(errno.EIO)
    with pytest.raises(OutcomeUnknown, match="may not be durable"):
        storage.put_if_absent("journal/1", b"x")


def test_a_file_system_that_cannot_sync_folders_is_used_all_the_same(storage: PosixStorage, recorder: Recorder) -> None:
    recorder.faults["fsync journal"] = fails(errno.EINVAL)
    assert storage.put_if_absent("journal/1", b"x")


def test_a_read_error_is_no_missing_object(storage: PosixStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pread", lambda fd, length, offset: fails(errno.EIO)())
    with pytest.raises(StorageError, match=r"read journal/0: Input/output error \(EIO\)") as caught:
        storage.read("journal/0")
    assert not isinstance(caught.value, ObjectMissing)
