"""How far the training is: said by the training thread at each step's end, asked for by the agent's loop when it needs
it.

A step's end costs the training no lock and wakes nobody, unless a save that no worker foresaw is being agreed on.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from distckpt.protocol.effects import AgentEffect
from distckpt.protocol.events import AgentEvent, Progress
from distckpt.protocol.gate import Gate
from distckpt.protocol.messages import Agreed
from distckpt.runtime.loop import Machine
from distckpt.runtime.observer import EndedStep

STEPS_MAX = 10_000
"""Ends of steps that are kept for the observer until the loop comes by; of more the oldest are left out."""


class Pace:
    """Of one agent. `held_s`: a training thread is held at a ceiling for so long at most, should the agent be gone.

    `observed`: the times of the steps' ends are kept until `take_ended`.
    """

    def __init__(self, held_s: float, *, observed: bool) -> None:
        self._gate = Gate()
        self._moved = threading.Condition()
        self._held_s = held_s
        self._ended: deque[EndedStep] | None = deque(maxlen=STEPS_MAX) if observed else None

    def step_ended(self, step: int) -> Agreed | None:
        """On the training thread: the save that was agreed on, if this is where it is to be taken."""
        if self._ended is not None:
            self._ended.append((step, time.monotonic()))
        return self._pass() if self._gate.ended(step) else None

    def _pass(self) -> Agreed | None:
        with self._moved:
            if not self._moved.wait_for(lambda: not self._gate.holds, self._held_s):
                self._gate.lift_any()
            return self._gate.take_due()

    # ---------------------------------------------------------------------------------------------------- agent's loop

    @property
    def last(self) -> int:
        """The last finished step; -1 before the first."""
        return self._gate.last

    def set_ceiling(self, proposal: int) -> int:
        with self._moved:
            ceiling = self._gate.set_ceiling(proposal)
            self._moved.notify_all()  # whom an earlier one holds goes on to this one
        return ceiling

    def move(self, move: Callable[[Gate], None]) -> None:
        """Changes what the training may pass."""
        with self._moved:
            move(self._gate)
            self._moved.notify_all()

    def take_ended(self) -> Sequence[EndedStep]:
        """The steps that have ended since the last call, oldest first."""
        return [self._ended.popleft() for _ in range(len(self._ended))] if self._ended else ()


class Following:
    """The agent's machine, told how far the training is whenever it is told anything."""

    def __init__(self, machine: Machine[AgentEvent, AgentEffect], pace: Pace) -> None:
        self._machine = machine
        self._pace = pace
        self._told = pace.last

    def handle(self, event: AgentEvent, now: float) -> Sequence[AgentEffect]:
        step = self._pace.last
        if step == self._told:
            return self._machine.handle(event, now)
        self._told = step
        return [*self._machine.handle(Progress(step), now), *self._machine.handle(event, now)]

    def next_deadline(self) -> float | None:
        return self._machine.next_deadline()
