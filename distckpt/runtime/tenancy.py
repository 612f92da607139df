"""Managers of one process that take turns at one directory: whoever is used has it.

TensorFlow lets a program make a second `CheckpointManager` on a directory, and go on with the first. Here each use of
one that is not seated closes the session of the one that is (its save in flight is finished first), and opens a new
one: a generation as any other, fenced as any other. So there is one writer at a time, and each sees what the others
committed. In a job of several workers all must use the same manager at the same time, as with every other call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from distckpt.model import Checkpoint
from distckpt.protocol.messages import Committed
from distckpt.runtime.session import OnCommit, Session
from distckpt.runtime.ticket import SaveTicket


@dataclass(slots=True, eq=False)
class _Seat:
    """Of one directory."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    taken_by: Tenancy | None = None


@dataclass(frozen=True, slots=True)
class Follower:
    """A manager as its tenancy sees it. `on_commit` hears of every commit, on the agent's thread; `remember` gets the
    live checkpoints whenever the session was opened again.
    """

    on_commit: OnCommit
    remember: Callable[[Sequence[Checkpoint]], None]


_seats: dict[str, _Seat] = {}
_seats_lock = threading.Lock()


class Tenancy:
    """One manager's session at `directory` (its real path), opened by `open_session` whenever it must be.

    `session` is the last one, which may be closed; `claim` before using it. `follower` hears what happens.
    """

    def __init__(self, directory: str, open_session: Callable[[OnCommit], Session], follower: Follower) -> None:
        """Takes the seat and raises what `open_session` raises."""
        self._followers: tuple[Follower, ...] = (follower,)
        with _seats_lock:
            self._seat = _seats.setdefault(directory, _Seat())
        self._open_session = open_session
        with self._seat.lock:
            self.session = self._sit_down()

    def follow(self, follower: Follower) -> None:
        """Another manager goes by this session."""
        self._followers += (follower,)

    def claim(self) -> None:
        """Makes sure that `session` is the open one; where it had to be opened again, the followers hear of it."""
        with self._seat.lock:
            if self._seat.taken_by is self:
                return
            self.session = self._sit_down()
            for follower in self._followers:
                follower.remember(self.session.checkpoints)

    def finish(self) -> None:
        """Waits, as long as the deadlines allow, for what is in flight, and leaves. May be called twice."""
        with self._seat.lock:
            if self._seat.taken_by is self:
                self._seat.taken_by = None
                self.session.finish()

    def close(self) -> None:
        """Leaves the job. May be called twice."""
        with self._seat.lock:
            if self._seat.taken_by is self:
                self._seat.taken_by = None
                self.session.close()

    def _sit_down(self) -> Session:
        other = self._seat.taken_by
        if other is not None:
            self._seat.taken_by = None
            other.session.hand_over()
        session = self._open_session(self._committed)
        self._seat.taken_by = self
        return session

    def _committed(self, ticket: SaveTicket, committed: Committed) -> None:
        for follower in self._followers:
            follower.on_commit(ticket, committed)
