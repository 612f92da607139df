"""Where those who watch a job listen in: what passes through the chief's two loops is shown to an `Observer`.

Nothing is decided by an observer, and one that fails is told of in the log once and disturbs nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol

from distckpt.model import Checkpoint
from distckpt.protocol.coordinator import Coordinator
from distckpt.protocol.effects import CoordinatorEffect
from distckpt.protocol.events import CoordinatorEvent
from distckpt.runtime.loop import Effect, Event, Machine

log = logging.getLogger("distckpt.runtime")

EndedStep = tuple[int, float]
"""The number of a training step, and when it ended, by `time.monotonic`."""

Tap = Callable[[Event, Sequence[Effect], float], None]


@dataclass(frozen=True, slots=True)
class Opening:
    """A generation that begins. `coordinator` may be read where `coordinator_did` is called, and nowhere else.

    `checkpoints` are the live ones, oldest first.
    """

    directory: str
    job: str
    generation: int
    world_size: int
    checkpoints: tuple[Checkpoint, ...]
    coordinator: Coordinator


class Observer(Protocol):
    """Of one session of the chief. `coordinator_did` is called after each event with what followed from it, at `now` by
    the loop's time; `steps_ended` some times a second with the training steps that have ended since, oldest first.
    Each is called on its loop's thread: they must not block.
    """

    def opened(self, opening: Opening) -> None: ...

    def coordinator_did(self, event: CoordinatorEvent, effects: Sequence[CoordinatorEffect], now: float) -> None: ...

    def steps_ended(self, ended: Sequence[EndedStep]) -> None: ...

    def picture_json(self) -> bytes:
        """How the job stands, for tools. From any thread; may read from the storage."""

    def closed(self) -> None: ...


class Tapped(Generic[Event, Effect]):
    """A machine that shows each event, and what follows from it, to `tap`."""

    def __init__(self, machine: Machine[Event, Effect], tap: Tap[Event, Effect]) -> None:
        self._machine = machine
        self._tap = tap
        self._failed = False

    def handle(self, event: Event, now: float) -> Sequence[Effect]:
        effects = self._machine.handle(event, now)
        try:
            self._tap(event, effects, now)
        except Exception:
            if not self._failed:
                log.exception("watching the job failed; the job goes on")
            self._failed = True
        return effects

    def next_deadline(self) -> float | None:
        return self._machine.next_deadline()
