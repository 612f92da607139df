"""What a save of very many workers costs their coordinator: a few messages for each of them, whatever their number."""

from __future__ import annotations

from collections import Counter

import pytest

from distckpt.model import Checkpoint, Shard
from distckpt.protocol import effects, events
from distckpt.protocol.coordinator import Coordinator
from distckpt.protocol.deadlines import Deadlines
from distckpt.protocol.messages import (
    AgentEnvelope,
    AgentMessage,
    Announce,
    Committed,
    CoordinatorMessage,
    Decided,
    Join,
    Sender,
    Welcome,
    Written,
)

JOB = "job"
GENERATION = 1


class Many:
    """A coordinator and `workers` workers that have joined; `said` is what it has said since."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.coordinator = Coordinator(JOB, GENERATION, workers, Deadlines(), [])
        self.said: list[CoordinatorMessage] = []
        self.commits: list[effects.Commit] = []
        for worker in range(workers):
            self.hear(worker, Join(workers, "host", 1, "probe"))
            self.handle(events.ProbeResult(worker, f"{worker}", None))
        assert [type(message) for message in self.said] == [Welcome] * workers
        self.said.clear()

    def hear(self, worker: int, message: AgentMessage) -> None:
        self.handle(events.Received(AgentEnvelope(Sender(JOB, GENERATION, worker, f"{worker}"), message)))

    def handle(self, event: events.CoordinatorEvent) -> None:
        for effect in self.coordinator.handle(event, 0.0):
            match effect:
                case effects.Send(envelope):
                    self.said.append(envelope.message)
                case effects.Commit():
                    self.commits.append(effect)

    def save(self) -> None:
        for worker in range(self.workers):
            self.hear(worker, Announce(1, 100, "ckpt-100", "digest", 8, captured=True))
        for worker in range(self.workers):
            self.hear(worker, Written(1, worker, Shard(worker, "", 0, ())))
        self.handle(events.CommitDone(1, Checkpoint("ckpt-100", 100, 1.0, GENERATION)))


@pytest.mark.parametrize("workers", [1, 10, 1_000])
def test_a_save_takes_two_messages_to_each_worker(workers: int) -> None:
    many = Many(workers)
    many.save()
    assert len(many.commits) == 1
    assert Counter(type(message) for message in many.said) == {Decided: workers, Committed: workers}


def test_all_are_told_of_the_decision_and_of_the_commit_with_one_value_each() -> None:
    many = Many(100)
    many.save()
    assert len({id(message) for message in many.said}) == 2
