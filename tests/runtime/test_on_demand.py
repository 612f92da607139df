"""Saves that no worker foresaw, in real jobs: threads that train, sockets, files, the command line as a process."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from distckpt.bundle.verify import verify
from distckpt.protocol.messages import Wish
from distckpt.rpc.operator import operator_of
from distckpt.storage.posix import PosixStorage

DEADLINE_S = 60.0
CLI = "import sys; sys.modules['tensorflow'] = None; from distckpt.cli.main import main; sys.exit(main())"

Trained = Callable[..., "Training"]


class Training:
    """The training threads of a job: as fast as they can, each for itself, until `stop`."""

    def __init__(self, workers: list[Any], model: Any) -> None:
        self.saved: dict[int, list[int]] = {worker.index: [] for worker in workers}
        self.steps: dict[int, int] = {}
        self._model = model
        self._ending = threading.Event()
        self._pool = ThreadPoolExecutor(len(workers))
        self._runs = [self._pool.submit(self._train, worker) for worker in workers]

    def _train(self, worker: Any) -> None:
        step = 0
        while not self._ending.is_set():
            step += 1
            self.steps[worker.index] = step
            agreed = worker.session.agent.step_ended(step)
            if agreed is not None:
                worker.save(step, self._model).outcome.result()
                self.saved[worker.index].append(step)
            self._ending.wait(0.001)  # a step

    def stop(self) -> None:
        self._ending.set()
        for run in self._runs:
            run.result(DEADLINE_S)
        self._pool.shutdown()


@pytest.fixture
def train(model: Any) -> Iterator[Trained]:
    made: list[Training] = []

    def start(workers: list[Any]) -> Training:
        made.append(Training(workers, model))
        return made[-1]

    yield start
    for each in made:
        each.stop()


@pytest.mark.parametrize("count", [1, 2, 4])
def test_all_workers_save_at_one_step_that_nobody_named(job: Any, train: Trained, count: int) -> None:
    training = train(job.start(count))
    with operator_of(str(job.directory)) as operator:
        answer = operator.save_now("a test", 30.0)
    training.stop()
    assert answer.cause is None
    assert answer.name == f"ckpt-{answer.step}"
    assert training.saved == {worker: [answer.step] for worker in range(count)}
    assert verify(PosixStorage(job.directory), answer.name) == []


def test_a_worker_is_as_good_as_a_tool(job: Any, train: Trained) -> None:
    workers = job.start(2)
    training = train(workers)
    answer = workers[1].session.agent.wish(Wish("SIGUSR1", 30.0)).result()
    training.stop()
    assert training.saved == {0: [answer.step], 1: [answer.step]}


def test_many_at_once_share_saves_and_each_has_its_answer(job: Any, train: Trained) -> None:
    workers = job.start(2)
    training = train(workers)
    tickets = [worker.session.agent.wish(Wish(f"wish {each}", 30.0)) for each in range(10) for worker in workers]
    steps = {ticket.result().step for ticket in tickets}
    training.stop()
    assert training.saved[0] == training.saved[1]
    assert steps <= set(training.saved[0])
    assert len(steps) < len(tickets)


def test_a_worker_in_a_long_step_is_waited_for_and_then_named(job: Any, train: Trained) -> None:
    workers = job.start(2)
    training = train(workers[:1])  # worker 1 is inside its first step
    with operator_of(str(job.directory)) as operator:
        answer = operator.save_now("a test", 1.0)
    assert answer.cause is not None
    assert answer.cause.kind == "DeadlineExceeded"
    assert "worker 1 at -1" in answer.cause.message
    held_at = training.steps[0]
    late = train(workers[1:])  # ... which ends
    assert late.steps
    for each in (training, late):
        each.stop()
    assert held_at <= min(training.saved[0][0], late.saved[1][0])
    assert training.saved[0] == late.saved[1]


def test_a_job_that_closes_answers_who_waits(job: Any) -> None:
    (worker,) = job.start(1)
    ticket = worker.session.agent.wish(Wish("SIGUSR1", 30.0))
    worker.session.close()
    answer = ticket.result()
    assert answer.cause is not None
    assert "closed" in answer.cause.message


def save_now(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CLI, "save-now", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def test_the_command_line_saves_and_says_what_was_committed(job: Any, train: Trained) -> None:
    training = train(job.start(2))
    told = save_now(job.directory)
    as_json = save_now(job.directory, "--json")
    training.stop()
    first, second = training.saved[0]
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith(f"ckpt-{first} is committed, ")
    answer = json.loads(as_json.stdout)
    assert (as_json.returncode, answer["committed"], answer["step"]) == (0, True, second)
    assert (answer["name"], answer["error"]) == (f"ckpt-{second}", None)


def test_the_command_line_says_in_one_line_why_nothing_was_committed(job: Any) -> None:
    job.start(1)
    told = save_now(job.directory, "--timeout", 0.5)
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr.startswith("distckpt: distckpt save-now: after 0.5 s step 0 was agreed on and is not committed")
    as_json = save_now(job.directory, "--timeout", 0.5, "--json")
    assert as_json.returncode == 1
    assert json.loads(as_json.stdout)["error"]["kind"] == "DeadlineExceeded"
    job.stop()
    ended = save_now(job.directory)
    assert ended.returncode == 1
    assert "has ended" in ended.stderr
