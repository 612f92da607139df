"""A save outlives its writers, with real sessions, sockets and files: one of the workers cannot write, or hangs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from distckpt.bundle.reader import BundleReader
from distckpt.bundle.verify import verify
from distckpt.catalog import Catalog
from distckpt.cli.main import main
from distckpt.errors import StorageError
from distckpt.journal.log import Journal
from distckpt.protocol.deadlines import Deadlines
from distckpt.storage.interface import StagedFile
from distckpt.storage.posix import PosixStorage


@pytest.fixture
def before_staging(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], None]], None]:
    """Has a function called with the name of each file that is about to be staged; it may raise, or wait."""

    def install(trouble: Callable[[str], None]) -> None:
        honest = PosixStorage.stage

        def stage(self: PosixStorage, generation: int, name: str) -> StagedFile:
            trouble(name)
            return honest(self, generation, name)

        monkeypatch.setattr(PosixStorage, "stage", stage)

    return install


def assert_saved(job: Any, model: Any, name: str) -> None:
    """Whole, bit for bit, one copy."""
    storage = PosixStorage(job.directory)
    assert verify(storage, name) == []
    reader = BundleReader(storage, name)
    for tensor, array in model.items():
        assert bytes(reader.read(tensor).data) == array.tobytes()
    (files,) = (checkpoint.files for checkpoint in Journal.open(storage).state.live if checkpoint.name == name)
    data = sum(file.size_bytes for file in files if ".data-" in file.name)
    assert data == sum(array.nbytes for array in model.values())


def test_what_a_worker_cannot_write_the_others_write(job: Any, model: Any, before_staging: Any) -> None:
    def refuse(name: str) -> None:
        if "worker-00001" in name:
            raise StorageError("Input/output error", name)

    before_staging(refuse)
    workers = job.start(3)
    for ticket in [worker.save(7, model) for worker in workers]:
        assert ticket.outcome.result().checkpoint.name == "ckpt-7"
    manifest = Catalog(job.directory).manifest(7)
    assert manifest is not None
    assert manifest.workers == (0, 0, 2, 2)
    assert manifest.missing_workers == ()
    by_worker = workers[0].session.bytes_by_worker("ckpt-7")
    assert by_worker[1] == 0
    assert sum(by_worker) == sum(array.nbytes for array in model.values())
    job.stop()
    assert_saved(job, model, "ckpt-7")


def test_what_only_the_worker_had_that_cannot_write_is_named_in_the_manifest(
    job: Any, model: Any, before_staging: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(name: str) -> None:
        if "worker-00001" in name:
            raise StorageError("Input/output error", name)

    before_staging(refuse)
    workers = job.start(2)
    tickets = [workers[0].save(7, model), workers[1].save(7, model, own={"private": model["bias"]})]
    for ticket in tickets:
        ticket.outcome.result()
    manifest = Catalog(job.directory).manifest(7)
    assert manifest is not None
    assert manifest.missing_workers == (1,)
    assert "private" not in BundleReader(PosixStorage(job.directory), "ckpt-7").tensors
    assert main(["show", str(job.directory), "7"]) == 0
    assert "without     worker 1" in capsys.readouterr().out


def test_a_worker_that_hangs_in_a_write_does_not_hold_the_save_up(job: Any, model: Any, before_staging: Any) -> None:
    released = threading.Event()

    def hang(name: str) -> None:
        if "worker-00001" in name:
            released.wait(60)

    before_staging(hang)
    workers = job.start(2, deadlines=Deadlines(resend_s=0.1, heartbeat_s=0.1, straggler_s=0.2))
    tickets = [worker.save(7, model) for worker in workers]
    assert [ticket.outcome.result().checkpoint.name for ticket in tickets] == ["ckpt-7", "ckpt-7"]
    assert not released.is_set()
    released.set()
    for ticket in [worker.save(8, model) for worker in workers]:
        ticket.outcome.result()
    job.stop()
    assert_saved(job, model, "ckpt-7")
    late = [handle for handle in PosixStorage(job.directory).staged() if handle.startswith("1/00000001-share-00001")]
    assert late == [], "what it wrote too late is thrown away"
