"""What the workers agree to restore is read once by each of them, before any of them changes anything."""

from __future__ import annotations

from typing import Any

import pytest

from distckpt.bundle.verify import verify
from distckpt.errors import CorruptCheckpoint
from distckpt.storage.posix import PosixStorage


def begun(workers: Any, *, whole: bool) -> list[Any]:
    """The tickets of a restore that was decided; nothing of the checkpoint can be read after that."""
    tickets = [worker.session.agent.begin_restore("latest", whole=whole) for worker in workers]
    assert {ticket.outcome.result().name for ticket in tickets} == {"ckpt-7"}
    return tickets


def spoil(directory: Any) -> None:
    for path in directory.glob("ckpt-7.data-*"):
        path.write_bytes(b"?" * path.stat().st_size)


def saved(job: Any, model: Any) -> Any:
    workers = job.start(2)
    for ticket in [worker.save(7, model) for worker in workers]:
        ticket.outcome.result()
    return workers


def test_each_worker_has_read_all_that_it_takes_before_any_may_change(job: Any, model: Any) -> None:
    tickets = begun(saved(job, model), whole=True)
    spoil(job.directory)
    for ticket in tickets:
        taken = {payload.name: payload.data.tobytes() for payload in ticket.loader.take(model)}
        assert taken == {name: array.tobytes() for name, array in model.items()}


def test_for_a_part_of_it_each_worker_reads_its_part_of_the_bytes(job: Any, model: Any) -> None:
    tickets = begun(saved(job, model), whole=False)
    spoil(job.directory)
    for ticket in tickets:
        with pytest.raises(CorruptCheckpoint):
            ticket.loader.take(model)


@pytest.mark.parametrize("whole", [True, False])
def test_what_a_chief_of_an_earlier_start_does_to_its_visible_names_is_no_fault(
    job: Any, model: Any, *, whole: bool
) -> None:
    workers = saved(job, model)
    (job.directory / "ckpt-7.index").unlink()
    for number, path in enumerate(sorted(job.directory.glob("ckpt-7.data-*"))):
        other = job.directory / f"other-{number}"
        other.write_bytes(b"?" * path.stat().st_size)
        other.replace(path)
    for ticket in begun(workers, whole=whole):
        assert ticket.outcome.result().quarantined == ()
        taken = {payload.name: payload.data.tobytes() for payload in ticket.loader.take(model)}
        assert taken == {name: array.tobytes() for name, array in model.items()}
    assert verify(PosixStorage(job.directory), "ckpt-7") == [], "TensorFlow finds it again too"


@pytest.mark.parametrize("whole", [True, False])
def test_a_fault_that_one_worker_finds_is_found_for_all(job: Any, model: Any, *, whole: bool) -> None:
    workers = saved(job, model)
    for ticket in [worker.save(8, model) for worker in workers]:
        ticket.outcome.result()
    for path in job.directory.glob("ckpt-8.data-00001*"):
        path.write_bytes(b"?" * path.stat().st_size)
    for ticket in begun(workers, whole=whole):
        assert ticket.outcome.result().quarantined == ("ckpt-8",)
