"""A real file system that fills up in the middle of a shard. It is mounted for the test, which takes root."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from distckpt import errors
from distckpt.bundle.verify import verify
from distckpt.journal.log import Journal
from distckpt.storage.posix import PosixStorage

SIZE_MB = 5


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(disk)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a file system is not allowed here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_costs_the_save_and_nothing_else(
    small_disk: Path, new_job: Callable[[Path], Any], model: Any
) -> None:
    job = new_job(small_disk / "checkpoints")
    workers = job.start(2)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(3 << 20))
    saved = []
    for step in range(1, 3):
        tickets = [worker.save(step, model) for worker in workers]
        for ticket in tickets:
            ticket.outcome.wait()
        failures = [ticket.outcome.error for ticket in tickets]
        if failures == [None, None]:
            saved.append(step)
            continue
        for failure in failures:
            assert isinstance(failure, errors.StorageFull)
            assert "No space left" in str(failure)
            assert failure.advice == "retry"
        break
    assert saved == [1], "the disk was to be full at the second save"
    storage = PosixStorage(job.directory)
    assert verify(storage, "ckpt-1") == []
    filler.unlink()
    for ticket in [worker.save(9, model) for worker in workers]:
        ticket.outcome.result()
    assert verify(storage, "ckpt-9") == []
    live = Journal.open(storage).state.live
    assert storage.staged() == sorted(file.handle for checkpoint in live for file in checkpoint.files)
    job.stop()  # before the disk is gone
