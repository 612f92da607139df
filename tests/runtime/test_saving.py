"""Workers that save together: what is on disk, who wrote it, who is told."""

from __future__ import annotations

from typing import Any

import pytest

from distckpt.bundle.reader import BundleReader
from distckpt.bundle.verify import verify
from distckpt.journal.log import Journal
from distckpt.protocol.retention import KeepLatest
from distckpt.storage.posix import PosixStorage


def data_bytes(directory: Any, name: Any) -> list[Any]:
    return [path.stat().st_size for path in sorted(directory.glob(f"{name}.data-*"))]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_all_workers_write_one_copy_together(job: Any, model: Any, count: Any) -> None:
    workers = job.start(count)
    for ticket in [worker.save(7, model) for worker in workers]:
        assert ticket.outcome.result().checkpoint.name == "ckpt-7"
    storage = PosixStorage(job.directory)
    assert verify(storage, "ckpt-7") == []
    reader = BundleReader(storage, "ckpt-7")
    for name, array in model.items():
        assert bytes(reader.read(name).data) == array.tobytes()
    sizes = data_bytes(job.directory, "ckpt-7")
    assert len(sizes) == count
    assert sum(sizes) == sum(array.nbytes for array in model.values())
    assert max(sizes) / (sum(sizes) / count) <= 1.05
    assert workers[0].session.bytes_by_worker("ckpt-7") == tuple(sizes)


def test_what_only_one_worker_has_is_written_by_it(job: Any, model: Any) -> None:
    workers = job.start(2)
    own = {"private": model["kernel"] + 1}
    tickets = [workers[0].save(1, model, own=own), workers[1].save(1, model)]
    for ticket in tickets:
        ticket.outcome.result()
    reader = BundleReader(PosixStorage(job.directory), "ckpt-1")
    assert bytes(reader.read("private").data) == own["private"].tobytes()


def test_a_worker_that_has_nothing_to_write_leaves_no_file(job: Any, model: Any) -> None:
    workers = job.start(2)
    tiny = {"bias": model["scale"]}
    for ticket in [worker.save(1, tiny) for worker in workers]:
        ticket.outcome.result()
    assert len(data_bytes(job.directory, "ckpt-1")) == 1
    assert verify(PosixStorage(job.directory), "ckpt-1") == []


def test_every_worker_hears_of_commits_and_of_what_was_retired(job: Any, model: Any) -> None:
    workers = job.start(2, policy=KeepLatest(2))
    retired = []
    for step in range(4):
        tickets = [worker.save(step, model) for worker in workers]
        retired = [ticket.outcome.result().retired for ticket in tickets]
    assert retired == [("ckpt-1",), ("ckpt-1",)]
    assert [worker.commits for worker in workers] == [["ckpt-0", "ckpt-1", "ckpt-2", "ckpt-3"]] * 2
    assert sorted(path.name for path in job.directory.glob("*.index")) == ["ckpt-2.index", "ckpt-3.index"]


def test_saving_a_step_again_replaces_it_whole(job: Any, model: Any) -> None:
    workers = job.start(2)
    changed = {name: array + 1 for name, array in model.items()}
    for state in (model, changed):
        for ticket in [worker.save(5, state) for worker in workers]:
            ticket.outcome.result()
    storage = PosixStorage(job.directory)
    assert verify(storage, "ckpt-5") == []
    assert bytes(BundleReader(storage, "ckpt-5").read("kernel").data) == changed["kernel"].tobytes()


def test_fewer_workers_replace_a_step_of_more_and_leave_none_of_its_files(job: Any, model: Any) -> None:
    for count in (4, 2):
        workers = job.start(count)
        for ticket in [worker.save(5, model) for worker in workers]:
            ticket.outcome.result()
        for worker in reversed(workers):
            worker.session.close()
    assert len(data_bytes(job.directory, "ckpt-5")) == 2
    assert verify(PosixStorage(job.directory), "ckpt-5") == []


def test_snapshots_are_let_go_and_nothing_uncommitted_stays_staged_after_a_save(job: Any, model: Any) -> None:
    workers = job.start(2)
    tickets = [worker.save(1, model) for worker in workers]
    for ticket in tickets:
        ticket.outcome.result()
    for worker in reversed(workers):
        worker.session.close()
    assert all(ticket.snapshot is None for ticket in tickets)
    storage = PosixStorage(job.directory)
    (checkpoint,) = Journal.open(storage).state.live
    assert storage.staged() == sorted(file.handle for file in checkpoint.files)
