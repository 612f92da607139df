"""Snapshots of ends of steps, kept by real sessions: released when they are not needed, and no hindrance at the end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pytest

from distckpt.catalog import Catalog
from distckpt.commit.succession import Succession
from distckpt.errors import ConfigurationError
from distckpt.journal.leases import nobody
from distckpt.journal.log import Journal
from distckpt.journal.process import this_process
from distckpt.model import Place
from distckpt.options import Options
from distckpt.protocol.deadlines import Deadlines
from distckpt.protocol.effects import TakeOver
from distckpt.protocol.events import JournalSeen, TakeOverEnded
from distckpt.protocol.messages import CoordinatorEnvelope, Salvage
from distckpt.protocol.retention import NO_PRESERVATION, KeepLatest
from distckpt.runtime.in_hand import VARIABLE, in_hand
from distckpt.runtime.salvage import Keeper, KeptSnapshot
from distckpt.runtime.successor import Successor
from distckpt.runtime.ticket import SaveRequest, SaveTicket, Ticket
from distckpt.storage.memory import MemoryStorage


@dataclass
class Released:
    """A snapshot that says whether it is held."""

    own_bytes: int = 0
    held: bool = True

    def release(self) -> None:
        self.held = False


def kept(worker: Any, model: Any, step: int) -> Released:
    """What `worker` keeps of the end of `step`."""
    request = replace(worker.request(step, model), salvage=True)
    snapshot = Released()
    worker.session.agent.keep(KeptSnapshot(request, snapshot, None))  # type: ignore[arg-type]  # is never written
    return snapshot


def close_all(job: Any) -> None:
    """At the same time, as the ends of real trainings do."""
    with ThreadPoolExecutor(len(job.workers)) as threads:
        list(threads.map(lambda worker: worker.session.close(), job.workers))


def test_a_training_that_ends_well_leaves_nothing_to_be_salvaged(job: Any, model: Any) -> None:
    deadlines = Deadlines(heartbeat_s=0.1, silence_s=300.0)  # who waited for a loss would wait that long
    workers = job.start(3, deadlines=deadlines, snapshot_every=1)
    snapshots = [kept(worker, model, step) for step in (1, 2, 3) for worker in workers]
    close_all(job)
    assert not any(each.held for each in snapshots)
    assert Catalog(job.directory).checkpoints == ()


def test_what_a_commit_covers_is_released(job: Any, model: Any) -> None:
    workers = job.start(2, snapshot_every=1)
    before = [kept(worker, model, 1) for worker in workers]
    for step in (2, 3):  # when the second has its outcome, all that followed from the first is done
        for ticket in [worker.save(step, model) for worker in workers]:
            ticket.outcome.result()
    assert not any(each.held for each in before)
    close_all(job)


def test_a_job_that_never_calls_step_end_is_told_that_nothing_was_kept(
    job: Any, caplog: pytest.LogCaptureFixture
) -> None:
    job.start(1, snapshot_every=10)
    with caplog.at_level(logging.WARNING, logger="distckpt"):
        close_all(job)
    assert "snapshot_every=10) has kept nothing: step_end was never called" in caplog.text


@pytest.mark.parametrize("every", [0, -1, True, 2.0, "10"])
def test_only_a_positive_number_of_steps_is_taken(every: Any) -> None:
    with pytest.raises(ConfigurationError, match="snapshot_every"):
        Options(snapshot_every=every)


class Agent:
    """Notes which steps are kept."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def keep(self, snapshot: KeptSnapshot) -> None:
        self.steps.append(snapshot.request.step)

    def step_ended(self, step: int) -> None:
        pass


class Model:
    """Stands for a tensors.source.Source: what it captures is not looked at here."""

    replicated = ()
    digest = ""

    def layout(self) -> Model:
        return self

    def capture(self, *, looked: bool) -> Released:
        assert looked
        return Released()


@pytest.mark.parametrize(
    ("every", "steps", "are_kept"),
    [
        (1, [1, 2, 3], [1, 2, 3]),
        (3, [1, 2, 3, 4, 5, 6], [3, 6]),
        (10, [8, 16, 24, 32], [16, 24, 32]),  # a step_end for 8 steps at once: Keras' steps_per_execution
        (10, [9, 10, 11, 8, 9, 10], [10, 8, 10]),  # restored, and trained again
        (None, [1, 2, 3], []),
    ],
)
def test_snapshots_are_taken_whenever_so_many_steps_are_over(every: Any, steps: Any, are_kept: Any) -> None:
    agent: Any = Agent()
    source: Any = Model()
    keeper = Keeper(source, None, Place(0, 2), every, "ckpt-")
    for step in steps:
        keeper.step_ended(agent, step, None)
    assert agent.steps == are_kept


def test_a_job_of_one_worker_keeps_nothing() -> None:
    agent: Any = Agent()
    source: Any = Model()
    Keeper(source, None, Place(0, 1), 1, "ckpt-").step_ended(agent, 1, None)
    assert agent.steps == []


def test_what_gathers_the_metrics_is_called_before_the_capture_of_what_it_may_change() -> None:
    """Keras' progress is part of the checkpoint, and is brought up to date there."""
    calls: list[str] = []
    agent: Any = Agent()

    class Watched(Model):
        def capture(self, *, looked: bool) -> Released:
            calls.append("captured")
            return super().capture(looked=looked)

    def gather() -> dict[str, float]:
        calls.append("gathered")
        return {"loss": 0.5}

    source: Any = Watched()
    keeper = Keeper(source, None, Place(0, 2), 2, "ckpt-")
    for step in (1, 2):
        keeper.step_ended(agent, step, gather)
    assert calls == ["gathered", "captured"]


def test_what_is_kept_is_in_hand_for_the_launcher_until_it_is_committed(
    job: Any, model: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand = tmp_path / "hand"
    hand.mkdir()
    monkeypatch.setenv(VARIABLE, str(hand))
    workers = job.start(2, snapshot_every=1)
    for worker in workers:
        kept(worker, model, 1)
    assert in_hand(hand) == ["what is kept of the last steps"] * 2
    for step in (2, 3):  # when the second has its outcome, all that followed from the first is done
        for ticket in [worker.save(step, model) for worker in workers]:
            ticket.outcome.result()
    close_all(job)
    assert in_hand(hand) == []


def test_a_save_of_the_training_waits_for_a_salvage_that_has_begun(job: Any, model: Any) -> None:
    workers = job.start(2, snapshot_every=1)
    for worker in workers:
        kept(worker, model, 1)
        agent = worker.session.agent
        agent.heard(CoordinatorEnvelope(agent._me, Salvage(1)))  # nobody is lost: the coordinator declines what follows
    for ticket in [worker.save(2, model) for worker in workers]:
        assert ticket.outcome.result().checkpoint.name == "ckpt-2"
    close_all(job)


def test_where_another_generation_was_first_a_survivor_has_done_nothing_and_it_is_no_failure(
    state_of: Callable[[float], Any],
) -> None:
    storage = MemoryStorage()
    for _ in range(2):
        Journal.open(storage).begin(job="job", process=this_process(), world=("a:1",), timestamp=0.0)

    class Everything(Released):
        def everything(self) -> Any:
            return state_of(1.0).payloads()

    snapshot: Any = Everything()
    ticket = SaveTicket(SaveRequest(3, "ckpt-3", (), "", 0, {}), Ticket(5, "save", 1.0), snapshot)
    succession = Succession(storage, "job", 1, "/job", KeepLatest(None), NO_PRESERVATION, nobody, lambda: 0.0)
    successor = Successor(succession, 1, 2, 1)
    told: list[JournalSeen | TakeOverEnded] = []
    successor.perform(TakeOver(5, 1, ()), ticket, told.append)
    successor.close(60.0)
    assert told == [TakeOverEnded(5)]
    assert storage.staged() == []
