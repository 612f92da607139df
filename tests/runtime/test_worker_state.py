"""What only one worker has is saved beside the checkpoint of all, and goes back to where it came from."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distckpt.bundle.reader import BundleReader
from distckpt.catalog import Catalog
from distckpt.errors import ConfigurationError
from distckpt.journal.log import Journal
from distckpt.model import Place
from distckpt.protocol.retention import KeepLatest
from distckpt.runtime.worker_state import state_to_restore
from distckpt.storage.posix import PosixStorage


def save(workers: Any, step: int, model: Any, states: Any, name: str | None = None) -> list[Any]:
    """On all workers together; `states` by worker, None for one that has none."""
    tickets = [worker.save(step, model, state=state, name=name) for worker, state in zip(workers, states, strict=True)]
    return [ticket.outcome.result() for ticket in tickets]


def restored(workers: Any, selector: str = "latest") -> str | None:
    """What all workers decide to restore."""
    tickets = [worker.session.agent.begin_restore(selector) for worker in workers]
    (name,) = {ticket.outcome.result().name for ticket in tickets}
    for worker, ticket in zip(workers, tickets, strict=True):
        worker.manifest = ticket.manifest
    return name


def taken(workers: Any, changed_world: str = "error") -> list[float | None]:
    """By worker: the value of the state that it takes back with the newest checkpoint, None where it keeps its own."""
    name = restored(workers)
    found: list[float | None] = []
    for worker in workers:
        prefix = state_to_restore(str(name), worker.manifest, Place(worker.index, len(workers)), changed_world)  # type: ignore[arg-type]  # as users write it
        found.append(None if prefix is None else value_of(worker, prefix))
    return found


def value_of(worker: Any, prefix: str) -> float:
    reader = BundleReader(worker.session.agent._storage, prefix)
    values = {
        float(value) for name in ("iterator", "rng") for value in np.frombuffer(reader.read(name).data, np.float32)
    }
    (value,) = values
    return value


def restarted(job: Any, count: int) -> Any:
    for worker in sorted(job.workers, key=lambda worker: -worker.index):
        worker.session.close()
    job.workers.clear()
    return job.start(count)


def corrupt(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def broken() -> Any:
    raise OSError(28, "No space left on device")


def test_each_worker_takes_back_its_own(job: Any, model: Any, state_of: Any) -> None:
    workers = job.start(2)
    save(workers, 1, model, [state_of(10), state_of(11)])
    assert taken(restarted(job, 2)) == [10.0, 11.0]


def test_it_is_saved_with_a_model_that_is_captured_after_the_decision(job: Any, model: Any, state_of: Any) -> None:
    """As variables are that aggregate on read: they run collectives, once all workers are there."""
    workers, states = job.start(2), [state_of(10), state_of(11)]
    tickets = [worker.save(1, model, state=states[worker.index], captured=False) for worker in workers]
    for worker, ticket in zip(workers, tickets, strict=True):
        assert ticket.decided.wait(10)
        assert not states[worker.index].released
        worker.capture(ticket, model)
    for ticket in tickets:
        ticket.outcome.result()
    assert all(state.released for state in states)
    assert taken(restarted(job, 2)) == [10.0, 11.0]


def test_it_is_let_go_of_when_nothing_was_captured(job: Any, model: Any, state_of: Any) -> None:
    workers, states = job.start(2), [state_of(10), state_of(11)]
    tickets = [worker.save(1, model, state=states[worker.index], captured=False) for worker in workers]
    assert tickets[1].decided.wait(10)
    workers[1].session.agent.capture_failed(tickets[1], RuntimeError("as if a collective had failed"))
    for ticket in tickets:
        assert ticket.outcome.wait()
        assert "a collective had failed" in str(ticket.outcome.error)
    for worker in workers:
        worker.session.close()
    assert all(state.released for state in states)


def test_the_checkpoint_of_all_is_none_the_larger_and_knows_nothing_of_it(job: Any, model: Any, state_of: Any) -> None:
    workers = job.start(2)
    states = [state_of(0), state_of(1)]
    save(workers, 1, model, states)
    assert all(state.released for state in states)
    assert set(BundleReader(PosixStorage(job.directory), "ckpt-1").tensors) == set(model)
    sizes = workers[0].session.bytes_by_worker("ckpt-1")
    assert sum(sizes) == sum(array.nbytes for array in model.values())
    files = {path.name for path in job.directory.iterdir() if "worker" in path.name}
    prefixes = ["ckpt-1.worker-00000-of-00002", "ckpt-1.worker-00001-of-00002"]
    assert files == {f"{prefix}.{end}" for prefix in prefixes for end in ("index", "data-00000-of-00001")}
    (checkpoint,) = Journal.open(PosixStorage(job.directory)).state.live
    assert files < {file.name for file in checkpoint.files}


def test_what_a_worker_has_for_itself_lightens_its_share_of_the_rest(job: Any, model: Any, state_of: Any) -> None:
    workers = job.start(2)
    save(workers, 1, model, [state_of(0), None])
    mine, others = workers[0].session.bytes_by_worker("ckpt-1")
    assert 3000 < others - mine < 5000, "the state has 4,012 bytes"


@pytest.mark.parametrize("saved", [1, 2, 3])
@pytest.mark.parametrize("now", [1, 2, 3])
def test_with_another_number_of_workers_nothing_is_restored_unless_it_was_chosen(
    job: Any, model: Any, state_of: Any, saved: int, now: int
) -> None:
    save(job.start(saved), 1, model, [state_of(10 + worker) for worker in range(saved)])
    workers = restarted(job, now)
    if saved == now:
        assert taken(workers) == taken(workers, "drop") == taken(workers, "spread") == [10.0 + i for i in range(now)]
        return
    with pytest.raises(ConfigurationError, match=rf"of {saved} workers, and this job has {now}.*drop.*spread"):
        taken(workers)
    assert taken(workers, "drop") == [None] * now
    assert taken(workers, "spread") == [10.0 + worker % saved for worker in range(now)]


def test_who_takes_anothers_state_is_told_whose(
    job: Any, model: Any, state_of: Any, caplog: pytest.LogCaptureFixture
) -> None:
    save(job.start(2), 1, model, [state_of(0), state_of(1)])
    taken(restarted(job, 3), "spread")
    assert "holds the worker_state of 2 workers, and this job has 3: worker 2 takes that of worker 0" in caplog.text


def test_a_lost_workers_state_is_named_and_the_others_are_restored(
    job: Any, model: Any, state_of: Any, caplog: pytest.LogCaptureFixture
) -> None:
    lost = state_of(11)
    lost.payloads = broken
    save(job.start(2), 1, model, [state_of(10), lost])
    manifest = Catalog(job.directory).manifest(1)
    assert manifest is not None
    assert manifest.missing_workers == (1,)
    assert taken(restarted(job, 2)) == [10.0, None]
    assert "ckpt-1 lacks the worker_state of worker 1: worker 1 keeps the one it has" in caplog.text


def test_a_checkpoint_without_any_is_no_error(job: Any, model: Any, caplog: pytest.LogCaptureFixture) -> None:
    workers = job.start(2)
    save(workers, 1, model, [None, None])
    with caplog.at_level(logging.WARNING):
        assert taken(workers) == [None, None]
    assert "ckpt-1 holds no worker_state: worker 1 keeps the one it has" in caplog.text


@pytest.mark.parametrize("suffix", ["index", "data-00000-of-00001"])
@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("now", [1, 2])
def test_a_corrupt_state_sends_all_workers_to_the_checkpoint_before(
    job: Any, model: Any, state_of: Any, suffix: str, victim: int, now: int
) -> None:
    workers = job.start(2)
    for step in (1, 2):
        save(workers, step, model, [state_of(10 * step), state_of(10 * step + 1)])
    workers = restarted(job, now)
    corrupt(job.directory / f"ckpt-2.worker-{victim:05d}-of-00002.{suffix}")
    faults = Catalog(job.directory).verify(2)
    assert {fault.file for fault in faults} == {f"ckpt-2.worker-{victim:05d}-of-00002.{suffix}"}
    assert restored(workers) == "ckpt-1"
    assert [each.checkpoint.name for each in Catalog(job.directory).quarantined] == ["ckpt-2"]
    assert taken(workers, "spread") == [10.0, 11.0][:now]


def test_a_manifest_that_was_changed_is_not_believed(job: Any, model: Any, state_of: Any) -> None:
    """The states hang on the manifest: it must be the very one that was committed."""
    workers = job.start(2)
    for step in (1, 2):
        save(workers, step, model, [state_of(0), state_of(1)])
    manifest = job.directory / "ckpt-2.manifest.json"
    manifest.write_text(manifest.read_text().replace('"worker": 1', '"worker": 0'))
    assert restored(workers) == "ckpt-1"


def test_retention_removes_the_states_too(job: Any, model: Any, state_of: Any) -> None:
    workers = job.start(2, policy=KeepLatest(2))
    for step in range(1, 5):
        save(workers, step, model, [state_of(0), state_of(1)])
    left = {path.name.split(".")[0] for path in job.directory.iterdir() if ".worker-" in path.name}
    assert left == {"ckpt-3", "ckpt-4"}
    job.stop()  # what is retired is removed after the save
    storage = PosixStorage(job.directory)
    handles = {file.handle for each in Journal.open(storage).state.live for file in each.files}
    assert set(storage.staged()) == handles, "nothing stays in staging"


def test_saved_again_by_fewer_workers_the_old_states_are_gone(job: Any, model: Any, state_of: Any) -> None:
    save(job.start(3), 1, model, [state_of(worker) for worker in range(3)])
    save(restarted(job, 2), 1, model, [state_of(10), state_of(11)])
    prefixes = {path.name.rpartition(".")[0] for path in job.directory.glob("*.worker-*.index")}
    assert prefixes == {"ckpt-1.worker-00000-of-00002", "ckpt-1.worker-00001-of-00002"}
    assert taken(restarted(job, 2)) == [10.0, 11.0]


def test_an_aborted_save_leaves_no_state_in_staging(job: Any, model: Any, state_of: Any) -> None:
    workers = job.start(2)
    failing = state_of(0)
    failing.payloads = broken
    tickets = [workers[0].save(1, model, state=failing), workers[1].save(1, model, state=state_of(1))]
    for ticket in tickets:
        assert ticket.outcome.wait()
        assert "No space left" in str(ticket.outcome.error)
    save(workers, 2, model, [state_of(0), state_of(1)])  # on the same lanes, so the discards are done
    storage = PosixStorage(job.directory)
    handles = {file.handle for each in Journal.open(storage).state.live for file in each.files}
    assert set(storage.staged()) == handles
