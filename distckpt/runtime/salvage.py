"""Snapshots of ends of steps that are kept in memory, so that a crash costs at most `Options(snapshot_every=)` steps.

Each holds references to the tensors, which costs memory once the training writes its variables. How long each is kept,
and when one becomes a checkpoint, is the protocol's to say (protocol/agent_salvage.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from distckpt.model import NO_METRICS, Place, StepMetrics
from distckpt.protocol.messages import Agreed
from distckpt.runtime.ticket import SaveRequest, Snapshot, StateSnapshot

if TYPE_CHECKING:  # these import TensorFlow
    from distckpt.runtime.agent import AgentRuntime
    from distckpt.tensors.sessions import SessionSource
    from distckpt.tensors.source import Source
    from distckpt.tensors.worker_state import WorkerState


@dataclass(frozen=True, slots=True)
class KeptSnapshot:
    """What a save of it would announce, and the values."""

    request: SaveRequest
    snapshot: Snapshot
    state: StateSnapshot | None

    def release(self) -> None:
        self.snapshot.release()
        if self.state is not None:
            self.state.release()


class KeptSnapshots:
    """Not safe for threads: the runtime holds a lock around each call."""

    def __init__(self) -> None:
        self._kept: list[KeptSnapshot] = []

    @property
    def held(self) -> int:
        """How many there are."""
        return len(self._kept)

    def add(self, kept: KeptSnapshot) -> None:
        self._kept.append(kept)

    def take(self, step: int) -> KeptSnapshot:
        """Of two of one step, the one that came first."""
        found = next(kept for kept in self._kept if kept.request.step == step)
        self._kept.remove(found)
        return found

    def release_all(self) -> None:
        while self._kept:
            self._kept.pop().release()


class Keeper:
    """Takes them, on the training thread, whenever `every` steps are over: the same steps on all workers, as variables
    that aggregate on read run collectives when they are captured. `every` None: never; nor in a job of one worker,
    which nobody would survive.
    """

    def __init__(
        self,
        source: Source | SessionSource,
        worker_state: WorkerState | None,
        place: Place,
        every: int | None,
        name_prefix: str,
    ) -> None:
        self._source = source
        self._worker_state = worker_state
        self._every = None if place.world_size == 1 else every
        self._name_prefix = name_prefix
        self._last: int | None = None

    def step_ended(self, agent: AgentRuntime, step: int, metrics: StepMetrics) -> Agreed | None:
        """As AgentRuntime.step_ended, after a snapshot where one is due. It comes first, so that whatever is saved at
        this step all workers run the same collectives in the same order. Raises as Source.capture does.
        """
        if self._every is not None:
            last = step - 1 if self._last is None else self._last
            self._last = step
            if step // self._every != last // self._every:
                agent.keep(self._captured(step, metrics))
        return agent.step_ended(step)

    def _captured(self, step: int, metrics: StepMetrics) -> KeptSnapshot:
        told = metrics() if callable(metrics) else metrics  # may put into the state how far the training is
        layout = self._source.layout()
        state = None if self._worker_state is None else self._worker_state.capture()
        snapshot = self._source.capture(looked=True)
        own_bytes = snapshot.own_bytes + (0 if state is None else state.own_bytes)
        name = f"{self._name_prefix}{step}"
        request = SaveRequest(step, name, layout.replicated, layout.digest, own_bytes, told or NO_METRICS, salvage=True)
        return KeptSnapshot(request, snapshot, state)
