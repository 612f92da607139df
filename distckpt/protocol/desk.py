"""Where the coordinator's effects are collected: what it says, to whom, and what it wants done."""

from __future__ import annotations

from typing import Literal

from distckpt.protocol.effects import CoordinatorEffect, Log, Send
from distckpt.protocol.membership import Answer, Kind, Member
from distckpt.protocol.messages import CoordinatorEnvelope, CoordinatorMessage, Sender


class Desk:
    """Collects the effects of one `handle`; `now` is its time."""

    def __init__(self, job: str, generation: int) -> None:
        self.job = job
        self.generation = generation
        self.now = 0.0
        self._effects: list[CoordinatorEffect] = []

    def begin(self, now: float) -> list[CoordinatorEffect]:
        self.now = now
        self._effects = []
        return self._effects

    def do(self, effect: CoordinatorEffect) -> None:
        self._effects.append(effect)

    def send(self, receiver: Sender, message: CoordinatorMessage) -> None:
        self.do(Send(CoordinatorEnvelope(receiver, message)))

    def say(self, member: Member, message: CoordinatorMessage) -> None:
        self.send(Sender(self.job, self.generation, member.worker, member.incarnation), message)

    def answer(self, member: Member, kind: Kind, answer: Answer) -> None:
        """Says the outcome of a request, and keeps it for whoever asks again."""
        member.answers[kind] = answer
        self.say(member, answer)

    def log(self, level: Literal["info", "warning", "error"], text: str) -> None:
        self.do(Log(level, text))
