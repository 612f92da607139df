"""The directory itself: how it is made, what in it is refused, and what others do in it at the same time."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from distckpt.errors import DirectoryNotWritable, ObjectMissing, StorageError
from distckpt.storage.posix import PosixStorage

DAY_S = 86_400


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "job"


def test_create_makes_the_directory_with_its_parents(tmp_path: Path) -> None:
    storage = PosixStorage.create(tmp_path / "a" / "b" / "c")
    assert storage.put_if_absent("x", b"1")
    assert (tmp_path / "a/b/c/x").read_bytes() == b"1"
    assert PosixStorage.create(str(tmp_path / "a/b/c")).keys("") == ["x"]


def test_create_names_the_directory_and_the_reason_when_a_file_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for directory in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DirectoryNotWritable, match=r"file.*(Not a directory|File exists)"):
            PosixStorage.create(directory)


def test_create_names_the_directory_and_the_reason_where_nothing_can_be_written() -> None:
    for directory in ("/proc/distckpt", "/proc/self/task"):
        with pytest.raises(DirectoryNotWritable, match=directory):
            PosixStorage.create(directory)


def test_create_refuses_a_file_system_without_hard_links(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(DirectoryNotWritable, match="hard links"):
        PosixStorage.create(root)


def test_reading_never_makes_anything(root: Path) -> None:
    storage = PosixStorage(root)
    assert storage.keys("") == storage.keys("a/b") == storage.staged() == []
    with pytest.raises(ObjectMissing):
        storage.read("x")
    assert not root.exists()


def test_writing_never_makes_the_directory_itself(root: Path) -> None:
    """It may be the mount point of a file system that is not mounted."""
    storage = PosixStorage(root)
    for call in (
        lambda: storage.put("a", b""),
        lambda: storage.put_if_absent("a/b", b""),
        lambda: storage.stage(1, "x"),
    ):
        with pytest.raises(StorageError):
            call()
    assert not root.exists()


def test_temporary_files_are_no_keys_and_none_is_left(root: Path) -> None:
    storage = PosixStorage.create(root)
    storage.put("a", b"1")
    storage.put_if_absent("a", b"2")
    assert list((root / ".distckpt/temporary").iterdir()) == []
    (root / ".distckpt/temporary/left").write_text("by a crash")
    assert storage.keys("") == ["a"]


def test_create_clears_away_what_crashed_writers_left_but_not_what_is_young(root: Path) -> None:
    PosixStorage.create(root)
    young, old = root / ".distckpt/temporary/young", root / ".distckpt/temporary/old"
    for path in (young, old):
        path.write_text("")
    os.utime(old, (old.stat().st_atime, old.stat().st_mtime - 2 * DAY_S))
    (root / ".distckpt/staging/3").mkdir(parents=True)
    PosixStorage.create(root).stage(4, "x")
    PosixStorage.create(root)
    assert (young.exists(), old.exists()) == (True, False)
    assert sorted(path.name for path in (root / ".distckpt/staging").iterdir()) == ["4"]


def test_a_private_object_is_its_owners_alone(root: Path) -> None:
    storage = PosixStorage.create(root)
    storage.put("secret", b"1", private=True)
    storage.put("open", b"1")
    assert stat.S_IMODE((root / "secret").stat().st_mode) == 0o600
    assert stat.S_IMODE((root / "open").stat().st_mode) != 0o600


def test_a_folder_left_empty_below_distckpt_goes_and_others_stay(root: Path) -> None:
    storage = PosixStorage.create(root)
    for key in (".distckpt/leases/a/b", ".distckpt/leases/c", "user/x"):
        storage.put(key, b"")
    storage.delete(".distckpt/leases/a/b")
    assert not (root / ".distckpt/leases/a").exists()
    storage.delete(".distckpt/leases/c")
    storage.delete("user/x")
    assert not (root / ".distckpt/leases").exists()
    assert (root / ".distckpt").exists()
    assert (root / "user").exists()
    storage.discard(storage.stage(1, "x").seal())
    assert not (root / ".distckpt/staging").exists()


def test_a_folder_that_vanishes_while_others_write_in_it_is_made_again(root: Path) -> None:
    storage, other = PosixStorage.create(root), PosixStorage.create(root)

    def churn(number: int) -> None:
        mine = storage if number % 2 else other
        for turn in range(60):
            mine.put(f".distckpt/leases/{number}", b"%d" % turn)
            assert mine.read(f".distckpt/leases/{number}") == b"%d" % turn
            mine.delete(f".distckpt/leases/{number}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(churn, range(4)))
    assert storage.keys(".distckpt") == []


# -------------------------------------------------------------------------------------------------------- links, pipes


def test_the_directory_may_be_a_link(root: Path, tmp_path: Path) -> None:
    PosixStorage.create(root).put("a", b"1")
    (tmp_path / "link").symlink_to(root)
    assert PosixStorage.create(tmp_path / "link").read("a") == b"1"


def test_a_folder_that_is_a_link_is_not_followed(root: Path, tmp_path: Path) -> None:
    storage = PosixStorage.create(root)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"1")
    (root / "link").symlink_to(outside)
    for call in (
        lambda: storage.put("link/new", b""),
        lambda: storage.put_if_absent("link/new", b""),
        lambda: storage.read("link/precious"),
        lambda: storage.delete("link/precious"),
        lambda: storage.keys("link/below"),
        lambda: storage.publish(storage.stage(1, "x").seal(), "link/new"),
    ):
        with pytest.raises(StorageError, match="symbolic link"):
            call()
    assert storage.keys("") == []
    assert [path.name for path in outside.iterdir()] == ["precious"]


def test_a_file_that_is_a_link_is_read_through_and_written_and_deleted_as_a_link(root: Path, tmp_path: Path) -> None:
    storage = PosixStorage.create(root)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"kept")
    for name in ("replaced", "deleted", "published", "read"):
        (root / name).symlink_to(elsewhere)
    assert storage.keys("") == ["deleted", "published", "read", "replaced"]
    assert storage.read("read") == b"kept"
    assert storage.put_if_absent("read", b"new") is False
    storage.put("replaced", b"new")
    storage.publish(storage.stage(1, "x").seal(), "published")
    storage.delete("deleted")
    assert elsewhere.read_bytes() == b"kept"
    assert (storage.read("replaced"), storage.read("published")) == (b"new", b"")


def test_a_pipe_in_a_files_place_is_an_error_and_no_hang(root: Path) -> None:
    storage = PosixStorage.create(root)
    os.mkfifo(root / "pipe")
    with pytest.raises(StorageError, match="pipe: is not a regular file"):
        storage.read("pipe")
    assert storage.keys("") == []


def test_staging_holds_other_things_than_handles_without_harm(root: Path) -> None:
    storage = PosixStorage.create(root)
    handle = storage.stage(2, "x").seal()
    (root / ".distckpt/staging/notes").mkdir()
    (root / ".distckpt/staging/notes/a").write_text("")
    (root / ".distckpt/staging/stray").write_text("")
    assert storage.staged() == [handle]


def test_a_file_abandoned_under_a_writer_keeps_its_descriptor_until_the_write_is_over(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closed earlier, the number could be another file's by the time the write happens."""
    storage = PosixStorage.create(root)
    file = storage.stage(1, "x")
    real = os.pwrite
    open_during_write = []

    def abandon_first(fd: int, data: memoryview, offset: int) -> int:
        file.abandon()
        open_during_write.append(Path(f"/proc/self/fd/{fd}").exists())
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", abandon_first)
    before = len(list(Path("/proc/self/fd").iterdir()))
    file.write_at(0, b"data")
    assert open_during_write == [True]
    assert len(list(Path("/proc/self/fd").iterdir())) == before - 1
    assert storage.staged() == []


def test_seal_refuses_while_a_write_is_under_way(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = PosixStorage.create(root).stage(1, "x")
    real = os.pwrite

    def seal_first(fd: int, data: memoryview, offset: int) -> int:
        with pytest.raises(StorageError, match="under way"):
            file.seal()
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", seal_first)
    file.write_at(0, b"data")
    assert file.seal() == "1/x"


# ----------------------------------------------------------------------------------------------------------- processes

CONTENDER = """
import sys
from distckpt.storage.posix import PosixStorage
storage, name = PosixStorage(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for slot in range(int(sys.argv[3])):
    if storage.put_if_absent(f"slots/{slot}", name.encode()):
        print(slot, flush=True)
"""


def test_of_several_processes_exactly_one_wins_each_slot(root: Path) -> None:
    storage = PosixStorage.create(root)
    slots, names = 60, ["a", "b", "c", "d"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CONTENDER, str(root), name, str(slots)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        with ThreadPoolExecutor(len(processes)) as pool:
            outputs = list(pool.map(lambda process: process.communicate("go\n", timeout=60)[0], processes))
    finally:
        for process in processes:
            process.kill()
            process.wait()
    won = {name: [int(slot) for slot in output.split()] for name, output in zip(names, outputs, strict=True)}
    assert sorted(slot for each in won.values() for slot in each) == list(range(slots))
    for name, each in won.items():
        assert all(storage.read(f"slots/{slot}") == name.encode() for slot in each)


def test_a_file_whose_name_is_anothers_now_cannot_be_sealed_and_abandoning_it_leaves_that_one(root: Path) -> None:
    storage = PosixStorage.create(root)
    storage.stage(1, "so that the folder stays").seal()
    file = storage.stage(1, "shard")
    storage.discard("1/shard")
    with pytest.raises(StorageError, match="another process has removed it"):
        file.seal()
    PosixStorage(root).stage(1, "shard").seal()
    file.abandon()
    assert "1/shard" in storage.staged()
