"""What a save and a restore have in common for the agent that asked: how far it is, and how long it waits."""

from __future__ import annotations

from enum import Enum

from distckpt.protocol.effects import AgentEffect, Tell
from distckpt.protocol.machine import Machine
from distckpt.protocol.messages import AgentEnvelope, AgentMessage, Join, Leave, Sender


class Stage(Enum):
    ASKED = "asked"
    CAPTURING = "capturing"
    WRITING = "writing"
    WRITTEN = "written"
    VERIFYING = "verifying"
    VERIFIED = "verified"
    DONE = "done"
    FAILED = "failed"


class Request:
    """`round` is 0 until the coordinator has named it; `asked_at` is when the waiting began, `patience_s` its limit."""

    def __init__(self, machine: Machine[Stage], ordinal: int, what: str, now: float, patience_s: float) -> None:
        self.machine = machine
        self.ordinal = ordinal
        self.what = what
        self.round = 0
        self.asked_at = now
        self.patience_s = patience_s

    @property
    def stage(self) -> Stage:
        return self.machine.state

    @property
    def give_up_at(self) -> float:
        return self.asked_at + self.patience_s


class Outbox:
    """Collects the effects of one `handle`; `now` is its time."""

    def __init__(self, me: Sender) -> None:
        self.me = me
        self.now = 0.0
        self.joined = False
        self.effects: list[AgentEffect] = []

    def begin(self, now: float) -> list[AgentEffect]:
        self.now = now
        self.effects = []
        return self.effects

    def tell(self, message: AgentMessage) -> None:
        """Says it to the coordinator. Before it has joined a worker can only join or leave: the rest is said later."""
        if self.joined or isinstance(message, Join | Leave):
            self.effects.append(Tell(AgentEnvelope(self.me, message)))

    def do(self, effect: AgentEffect) -> None:
        self.effects.append(effect)
