"""A real job, watched: what is told is what its workers did, over sockets and files; and watching disturbs nothing."""

from __future__ import annotations

import logging
import threading
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from distckpt.observe.observatory import Observatory
from distckpt.options import Options
from distckpt.protocol.retention import KeepLatest
from distckpt.runtime.observer import EndedStep, Opening

Job = Any
DEADLINE_S = 60.0


def scrape(address: str) -> dict[str, float]:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value for sample in samples}


@pytest.fixture
def address(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """Where the metrics are, as the log tells it."""
    caplog.set_level(logging.INFO, "distckpt.observe")

    def find() -> str:
        told = [record.getMessage() for record in caplog.records if "metrics for Prometheus" in record.getMessage()]
        return told[-1].split("http://")[1].split("/")[0]

    return find


def test_a_job_is_scraped_while_it_saves(job: Job, model: Any, address: Callable[[], str]) -> None:
    observatory = Observatory(Options(metrics=":0"), KeepLatest(2))
    workers = job.start(2, observer=observatory, policy=KeepLatest(2))
    for step in (10, 20, 30):
        tickets = [worker.save(step, model) for worker in workers]
        for worker, ticket in zip(workers, tickets, strict=True):
            ticket.outcome.result()
            worker.session.agent.held(ticket, 0.25)
    seen = scrape(address())
    assert seen["distckpt_saves_total committed"] == 3
    assert seen["distckpt_last_commit_step"] == 30
    assert seen["distckpt_workers_alive"] == seen["distckpt_world_size"] == 2
    assert seen["distckpt_checkpoints"] == 2
    size = sum(path.stat().st_size for path in job.directory.glob("ckpt-30*"))
    assert seen["distckpt_last_commit_bytes"] == size
    picture = observatory.picture()
    assert [save.phase for save in picture.saves] == ["committed"] * 3
    assert [part.share_bytes == part.written_bytes > 0 for part in picture.saves[-1].parts] == [True, True]
    assert [(each.name, each.kept) for each in picture.checkpoints] == [
        ("ckpt-20", ("one of the last 2",)),
        ("ckpt-30", ("the newest", "one of the last 2")),
    ]


class Held(logging.Handler):
    """The records of training that was held, and who waits for them."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[Any] = []
        self._changed = threading.Condition()

    def emit(self, record: Any) -> None:
        if record.distckpt_event == "training_held":
            with self._changed:
                self.made.append(record)
                self._changed.notify_all()

    def wait(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.made) >= count, DEADLINE_S)


@pytest.fixture
def held() -> Iterator[Held]:
    logger, handler = logging.getLogger("distckpt.events"), Held()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.setLevel(logging.NOTSET)
    logger.removeHandler(handler)


def test_the_stall_of_every_worker_reaches_the_chief(job: Job, model: Any, held: Held) -> None:
    drawn: list[tuple[int, str, float]] = []
    observatory = Observatory(
        Options(), KeepLatest(None), lambda step, values: drawn.extend((step, *each) for each in values.items())
    )
    workers = job.start(2, observer=observatory)
    tickets = [worker.save(10, model) for worker in workers]
    for number, (worker, ticket) in enumerate(zip(workers, tickets, strict=True)):
        ticket.outcome.result()
        worker.session.agent.held(ticket, 0.5 + number)
    held.wait(2)
    assert sorted((record.distckpt_worker, record.distckpt_seconds) for record in held.made) == [(0, 0.5), (1, 1.5)]
    assert [worker.stall_s for worker in observatory.picture().workers] == [0.5, 1.5]
    job.stop()
    assert (10, "distckpt/stall_seconds", 0.5) in drawn
    assert {name for _, name, _ in drawn} >= {"distckpt/save_seconds", "distckpt/bytes", "distckpt/write_seconds"}


def test_a_port_that_is_taken_is_told_of_and_the_job_goes_on(
    job: Job, model: Any, address: Callable[[], str], caplog: pytest.LogCaptureFixture, new_job: Any, tmp_path: Any
) -> None:
    job.start(1, observer=Observatory(Options(metrics=":0"), KeepLatest(None)))
    taken = address()
    other = new_job(tmp_path / "other")
    (worker,) = other.start(1, observer=Observatory(Options(metrics=taken), KeepLatest(None)))
    assert worker.save(1, model).outcome.result().checkpoint.name == "ckpt-1"
    assert f"no metrics: cannot listen on {taken}" in caplog.text


class Failing:
    """An observer whose every word fails."""

    def opened(self, opening: Opening) -> None:
        """Nothing yet."""

    def coordinator_did(self, event: Any, effects: Sequence[Any], now: float) -> None:
        raise RuntimeError("no")

    def steps_ended(self, ended: Sequence[EndedStep]) -> None:
        raise RuntimeError("no")

    def picture_json(self) -> bytes:
        return b""

    def closed(self) -> None:
        """Nothing to close."""


def test_an_observer_that_fails_is_told_of_once_and_disturbs_nothing(
    job: Job, model: Any, caplog: pytest.LogCaptureFixture
) -> None:
    workers = job.start(2, observer=Failing())
    for worker in workers:
        worker.session.agent.step_ended(10)
    tickets = [worker.save(10, model) for worker in workers]
    assert {ticket.outcome.result().checkpoint.name for ticket in tickets} == {"ckpt-10"}
    assert caplog.text.count("watching the job failed") == 2  # the coordinator's machine, and the agent's
