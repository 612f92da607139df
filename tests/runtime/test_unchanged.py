"""What did not change is linked: how much is written, what stands in the files, and what becomes of it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distckpt.bundle.payload import Payload
from distckpt.bundle.reader import BundleReader
from distckpt.bundle.verify import verify
from distckpt.commit.manifest import decode_manifest, manifest_file
from distckpt.errors import StorageFull, StorageNoSpace
from distckpt.journal.log import Journal
from distckpt.protocol.retention import KeepLatest
from distckpt.runtime import unchanged
from distckpt.storage.memory import MemoryStorage
from distckpt.storage.posix import PosixStorage


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unchanged, "LEAST_BYTES", 1024)


class Tuning:
    """A job that trains the head of a model: `linked` by default, on two workers, keeping `keep` checkpoints."""

    def __init__(self, job: Any, *, keep: int | None = None, workers: int = 2, linked: bool = True) -> None:
        rng = np.random.default_rng(1)
        self.model = {f"backbone-{i}": rng.standard_normal((2000, 9)).astype(np.float32) for i in range(10)}
        self.model |= {f"head-{i}": rng.standard_normal((2000, 1)).astype(np.float32) for i in range(10)}
        self.storage = PosixStorage(job.directory)
        self.saved: dict[str, dict[str, Any]] = {}
        self._workers = job.start(workers, policy=KeepLatest(keep), link_unchanged=linked)
        self.bytes = sum(array.nbytes for array in self.model.values())

    def train(self, *names: str) -> None:
        """Changes the tensors whose names begin so."""
        for name in self.model:
            if name.startswith(names):
                self.model[name] += 1

    def begin(self, step: int) -> list[Any]:
        self.saved[f"ckpt-{step}"] = {name: array.copy() for name, array in self.model.items()}
        return [worker.save(step, self.model) for worker in self._workers]

    def save(self, step: int) -> float:
        """Saves; how much was written, as a part of the model."""
        tickets = self.begin(step)
        for ticket in tickets:
            ticket.outcome.result()
        assert sum(self._workers[0].session.bytes_by_worker(f"ckpt-{step}")) == sum(t.written_bytes for t in tickets)
        return sum(ticket.written_bytes for ticket in tickets) / self.bytes

    def steps(self, first: int, last: int) -> list[float]:
        """What each of these saves wrote, the head trained before each."""
        written = []
        for step in range(first, last + 1):
            self.train("head")
            written.append(self.save(step))
        return written

    def restore(self, selector: str = "latest") -> Any:
        tickets = [worker.session.agent.begin_restore(selector) for worker in self._workers]
        decided, *others = [ticket.outcome.result() for ticket in tickets]
        assert {each.name for each in others} == {decided.name}
        return decided

    def check(self) -> list[str]:
        """All that is live is what was saved, bit for bit; the names."""
        live = [each.name for each in Journal.open(self.storage).state.live]
        for name in live:
            assert verify(self.storage, name) == []
            reader = BundleReader(self.storage, name)
            for tensor, array in self.saved[name].items():
                assert bytes(reader.read(tensor).data) == array.tobytes(), (name, tensor)
        return live

    def manifest(self, step: int) -> Any:
        path = manifest_file(f"ckpt-{step}")
        return decode_manifest(self.storage.read(path), path)


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of each write(2) at a position from here on."""
    sizes: list[int] = []
    real = os.pwrite

    def counted(fd: int, data: Any, offset: int) -> int:
        sizes.append(real(fd, data, offset))
        return sizes[-1]

    monkeypatch.setattr(os, "pwrite", counted)
    return sizes


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_model_with_nine_tenths_frozen_costs_a_tenth_from_the_third_save_on(job: Any, workers: int) -> None:
    tuning = Tuning(job, workers=workers)
    written = tuning.steps(1, 6)
    assert written[:2] == [1.0, 1.0]
    assert written[2:] == pytest.approx([0.1] * 4)
    assert tuning.check() == [f"ckpt-{step}" for step in range(1, 7)]


def test_what_is_counted_is_what_is_written(job: Any, writes: list[int]) -> None:
    tuning = Tuning(job)
    tuning.steps(1, 2)
    del writes[:]
    tuning.steps(3, 3)
    small = 32 << 10  # index, manifest, journal, state file
    assert tuning.bytes * 0.1 <= sum(writes) <= tuning.bytes * 0.1 + small


def test_a_model_that_changes_everywhere_is_written_as_ever(job: Any) -> None:
    tuning = Tuning(job)
    for step in range(1, 5):
        tuning.train("backbone", "head")
        assert tuning.save(step) == 1.0
    assert len(list(job.directory.glob("ckpt-4.data-*"))) == 2
    tuning.check()


def test_without_the_option_everything_is_written_each_time(job: Any) -> None:
    tuning = Tuning(job, linked=False)
    assert tuning.steps(1, 4) == [1.0] * 4
    assert {path.stat().st_nlink for path in job.directory.glob("*.data-*")} == {2}, "the visible name and the own one"


def test_the_files_hold_the_model_once_and_no_dead_bytes(job: Any) -> None:
    tuning = Tuning(job)
    tuning.steps(1, 4)
    files = sorted(job.directory.glob("ckpt-4.data-*"))
    assert [path.name for path in files] == [f"ckpt-4.data-0000{i}-of-00004" for i in range(4)]
    assert sum(path.stat().st_size for path in files) == tuning.bytes


def test_the_manifest_says_what_is_linked_and_whose_it_is(job: Any) -> None:
    tuning = Tuning(job)
    tuning.steps(1, 3)
    assert tuning.manifest(2).linked == ()
    assert tuning.manifest(3).workers == (0, 0, 1, 1)
    assert tuning.manifest(3).linked == (1, 3)


def test_a_checkpoint_outlives_those_that_it_was_linked_from(job: Any) -> None:
    tuning = Tuning(job, keep=1)
    tuning.steps(1, 6)
    assert tuning.check() == ["ckpt-6"]
    job.stop()  # what is retired is removed after the save
    live = Journal.open(tuning.storage).state.live
    assert tuning.storage.staged() == sorted(file.handle for each in live for file in each.files)


def test_what_thaws_is_written_and_what_freezes_is_linked_later(job: Any) -> None:
    tuning = Tuning(job)
    tuning.steps(1, 3)
    tuning.train("backbone-3")
    assert tuning.steps(4, 4) == pytest.approx([0.19])
    assert tuning.steps(5, 5) == pytest.approx([0.19]), "it is frozen again, and more than half of the file still lives"
    tuning.train("backbone")
    assert tuning.steps(6, 7) == [1.0, 1.0], "everything thawed, and what is frozen again is put apart"
    assert tuning.steps(8, 8) == pytest.approx([0.1])
    tuning.check()


def test_a_file_of_which_less_than_half_lives_is_let_go(job: Any) -> None:
    tuning = Tuning(job)
    tuning.steps(1, 3)
    tuning.train(*(f"backbone-{i}" for i in range(6)))
    assert tuning.steps(4, 4) == [1.0]
    assert tuning.steps(5, 5) == [1.0], "more is frozen than what was put apart: it is put apart anew"
    assert tuning.steps(6, 6) == pytest.approx([0.1])
    tuning.check()


def test_a_step_saved_again_is_written_anew_and_its_files_are_not_taken_for_the_old_ones(job: Any) -> None:
    tuning = Tuning(job)
    tuning.steps(1, 5)
    assert tuning.steps(4, 4) == [1.0]
    assert tuning.steps(6, 6) == pytest.approx([0.1])
    assert len(tuning.check()) == 6


def test_a_file_is_shared_by_so_many_checkpoints_and_then_written_anew(
    job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unchanged, "LINKED_MAX", 3)
    tuning = Tuning(job)
    written = tuning.steps(1, 8)
    assert written == pytest.approx([1.0, 1.0, 0.1, 0.1, 1.0, 0.1, 0.1, 1.0])
    inodes = [sorted(job.directory.glob(f"ckpt-{step}.data-*"))[1].stat().st_ino for step in range(2, 8)]
    assert len(set(inodes[:3])) == len(set(inodes[3:])) == 1
    assert inodes[0] != inodes[3]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EMLINK, errno.EXDEV, errno.ENOTSUP, errno.EIO])
def test_where_linking_is_refused_everything_is_written(job: Any, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    tuning = Tuning(job)
    tuning.steps(1, 2)
    real = os.link

    def refused(source: Any, target: Any) -> None:
        if str(target).endswith("-frozen"):
            raise OSError(number, os.strerror(number))
        real(source, target)

    monkeypatch.setattr(os, "link", refused)
    assert tuning.steps(3, 3) == [1.0]
    monkeypatch.undo()
    tuning.check()


def test_a_link_whose_folder_cannot_be_made_durable_is_not_counted_on(
    job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning = Tuning(job, workers=1)
    tuning.steps(1, 2)
    real, failed = os.fsync, []

    def fails_once(fd: int) -> None:
        if "staging" in str(Path(f"/proc/self/fd/{fd}").readlink()) and not failed:
            failed.append(fd)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(fd)

    monkeypatch.setattr(os, "fsync", fails_once)
    assert tuning.steps(3, 3) == [1.0]
    assert len(failed) == 1
    tuning.check()


def test_a_file_cut_short_meanwhile_is_not_linked(job: Any) -> None:
    tuning = Tuning(job)
    tuning.steps(1, 2)
    for path in job.directory.glob("ckpt-2.data-*"):
        os.truncate(path, path.stat().st_size - 1)
    assert tuning.steps(3, 3) == [1.0]
    assert verify(tuning.storage, "ckpt-3") == []


def test_after_a_save_that_failed_with_its_links_made_the_next_ones_are_whole(
    job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning = Tuning(job, keep=1)
    tuning.steps(1, 3)
    real = PosixStorage.stage

    def full(self: PosixStorage, generation: int, name: str) -> Any:
        if name.endswith(".index"):  # the disk is full once all shares are in: a mock, for the moment cannot be met
            raise StorageNoSpace(f"stage {name}: no space left")
        return real(self, generation, name)

    monkeypatch.setattr(PosixStorage, "stage", full)
    failures = [ticket.outcome for ticket in tuning.begin(4)]
    for failure in failures:
        failure.wait()
    assert [type(failure.error) for failure in failures] == [StorageFull] * 2
    monkeypatch.undo()
    monkeypatch.setattr(unchanged, "LEAST_BYTES", 1024)
    tuning.steps(5, 6)
    assert tuning.check() == ["ckpt-6"]


def flip(path: Path) -> None:
    """One bit of a file, in its middle."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


def test_damage_to_a_shared_file_costs_all_that_share_it_and_the_restore_takes_one_that_does_not(job: Any) -> None:
    tuning = Tuning(job)
    tuning.steps(1, 4)
    flip(sorted(job.directory.glob("ckpt-4.data-*"))[1])
    decided = tuning.restore()
    assert decided.name == "ckpt-1"
    assert decided.quarantined == ("ckpt-4", "ckpt-3", "ckpt-2")
    tuning.train("head")
    assert tuning.save(5) == 1.0, "what was found damaged is not linked again"
    assert tuning.check() == ["ckpt-1", "ckpt-5"]


def test_a_new_start_of_the_job_writes_everything_once(job: Any, new_job: Any) -> None:
    Tuning(job).steps(1, 3)
    job.stop()
    again = Tuning(new_job(job.directory), keep=2)
    assert again.steps(4, 6) == pytest.approx([1.0, 1.0, 0.1])
    assert again.check() == ["ckpt-5", "ckpt-6"]


def test_what_is_little_stays_in_the_file_of_the_rest() -> None:
    known = unchanged.Unchanged(MemoryStorage(), 1, 1)
    little = Payload("bias", 1, (2,), np.zeros(8, np.uint8))
    for checkpoint in ("ckpt-1", "ckpt-2"):
        parts = known.sort([little], checkpoint, "share-frozen")
        assert (parts.linked, parts.apart, parts.rest) == (None, [], [little])
        known.keep(checkpoint, parts, None)
