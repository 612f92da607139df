"""One thread that feeds a state machine with events and carries out its effects.

The machine decides, this waits: for an event, or until the machine's next deadline. `perform` must not block;
blocking things go to a `Lane`, and come back as events.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

log = logging.getLogger("distckpt.runtime")

Event_contra = TypeVar("Event_contra", contravariant=True)
Effect_co = TypeVar("Effect_co", covariant=True)
Event = TypeVar("Event")
Effect = TypeVar("Effect")


class Machine(Protocol[Event_contra, Effect_co]):
    """What `protocol/` makes: all time comes in as `now`, in seconds of one monotonic clock."""

    def handle(self, event: Event_contra, now: float) -> Sequence[Effect_co]: ...

    def next_deadline(self) -> float | None: ...


class Loop(Generic[Event, Effect]):
    """Runs `machine` until `close`.

    `on_crash` is told of an exception: a bug, after which the loop has ended. `after` is called after each event.
    """

    def __init__(
        self,
        name: str,
        machine: Machine[Event, Effect],
        tick: Event,
        perform: Callable[[Effect], None],
        on_crash: Callable[[BaseException], None],
        after: Callable[[], None] = lambda: None,
    ) -> None:
        self._machine = machine
        self._tick = tick
        self._perform = perform
        self._on_crash = on_crash
        self._after = after
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"distckpt-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def post(self, event: Event) -> None:
        """Hands in an event, from any thread, without waiting."""
        self._events.put(event)

    def close(self, timeout_s: float) -> None:
        """Ends the loop after the events that were posted before."""
        self._events.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            while True:
                try:
                    event = self._events.get(timeout=self._patience())
                except queue.Empty:
                    event = self._tick
                if event is None:
                    return
                for effect in self._machine.handle(event, time.monotonic()):
                    self._perform(effect)
                self._after()
        except Exception as error:
            log.exception("%s stopped", self._thread.name)
            self._on_crash(error)

    def _patience(self) -> float | None:
        deadline = self._machine.next_deadline()
        if deadline is None:
            return None
        # A tool may ask for a save within 1e300 seconds: more than the longest wait that there is would be an error.
        return min(max(0.0, deadline - time.monotonic()), threading.TIMEOUT_MAX)
