"""What a training thread holds of a save or a restore that it asked for: it waits here, the agent's loop resolves
it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from distckpt.bundle.loader import Loader
from distckpt.bundle.payload import Payload
from distckpt.errors import DistckptError, OutcomeUnknown
from distckpt.model import Manifest, Piece, TensorSpec
from distckpt.protocol.messages import Committed, RestoreDecided, WishOver

Result = TypeVar("Result")


class Snapshot(Protocol):
    """The captured values of one step, as `tensors/` makes it."""

    def payloads(self, pieces: Iterable[Piece], *, own: bool) -> list[Payload]:
        """The bytes of `pieces` of the replicated tensors and, if `own`, of all that only this worker has."""

    def everything(self) -> list[Payload]:
        """All that the checkpoint has to hold, as this worker has it: also what otherwise the chief writes.

        Raises UnsupportedState where something is for the chief alone.
        """

    def release(self) -> None:
        """Lets go of the tensors. Allowed twice."""


class StateSnapshot(Protocol):
    """What only this worker has, captured at one step, as `tensors/` makes it."""

    def payloads(self) -> list[Payload]:
        """The bytes of all of it."""

    def release(self) -> None:
        """Lets go of the tensors. Allowed twice."""


@dataclass(frozen=True, slots=True)
class SaveRequest:
    """What is announced. `specs` are the replicated tensors, `digest` is of them; see `messages.Announce`. `salvage`:
    it is of a snapshot that was kept.
    """

    step: int
    name: str
    specs: Sequence[TensorSpec]
    digest: str
    own_bytes: int
    metrics: Mapping[str, float]
    salvage: bool = False

    @property
    def size_bytes(self) -> int:
        """All that this worker holds for the save."""
        return self.own_bytes + sum(spec.size_bytes for spec in self.specs)


class Ticket(Generic[Result]):
    """One request. `ordinal` is its number in this incarnation; times are of `time.monotonic`."""

    def __init__(self, ordinal: int, what: str, patience_s: float) -> None:
        self.ordinal = ordinal
        self.what = what
        self.begun = time.monotonic()
        self.ended: float | None = None
        self.patience_s = patience_s
        self._done = threading.Event()
        self._result: Result | None = None
        self._error: DistckptError | None = None

    def resolve(self, result: Result) -> None:
        self._end(result, None)

    def fail(self, error: DistckptError) -> None:
        self._end(None, error)

    def done(self) -> bool:
        return self._done.is_set()

    @property
    def error(self) -> DistckptError | None:
        return self._error

    def wait(self, timeout_s: float | None = None) -> bool:
        """Whether it is done after at most `timeout_s`. None: as long as the protocol's deadlines allow, and no
        longer.
        """
        return self._done.wait(self.patience_s if timeout_s is None else timeout_s)

    def result(self) -> Result:
        """Waits, and returns the result or raises the error."""
        if not self.wait():
            raise OutcomeUnknown(f"{self.what}: no outcome within {self.patience_s:.0f} s; this is a bug in distckpt")
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def _end(self, result: Result | None, error: DistckptError | None) -> None:
        """The first outcome counts."""
        if not self._done.is_set():
            self._result, self._error = result, error
            self.ended = time.monotonic()
            self._done.set()


@dataclass(slots=True, eq=False)
class SaveTicket:
    """A save: its request, its snapshot once captured, and its outcome; `state` is what only this worker has.

    `decided` is set by the decision, or by the end where that comes first. `written_bytes` is this worker's share,
    `blocked_s` how long the training thread was held.
    """

    request: SaveRequest
    outcome: Ticket[Committed]
    snapshot: Snapshot | None
    state: StateSnapshot | None = None
    decided: threading.Event = field(default_factory=threading.Event)
    written_bytes: int = 0
    blocked_s: float = 0.0


WishTicket = Ticket[WishOver]


@dataclass(slots=True, eq=False)
class RestoreTicket:
    """A restore and its outcome. `whole`: all of the checkpoint is wanted. `loader` holds what this worker read of the
    last candidate to verify it; `manifest` is that candidate's, None where plain TensorFlow wrote it.
    """

    outcome: Ticket[RestoreDecided]
    whole: bool
    loader: Loader | None = None
    manifest: Manifest | None = None
