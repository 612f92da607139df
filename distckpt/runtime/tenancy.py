"""Managers of one process that take turns at one directory: whoever is used has it.

TensorFlow lets a program make a second `CheckpointManager` on a directory, and go on with the first. Here each use of
one that is not seated closes the session of the one that is (its save in flight is finished first), and opens a new
one: a generation as any other, fenced as any other. So there is one writer at a time, and each sees what the others
committed. In a job of several workers all must use the same manager at the same time, as with every other call.
Where they name their checkpoints differently, the retention of one leaves alone what another commits after it was made;
what was there before it takes over, as TensorFlow's does.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from distckpt.model import Checkpoint
from distckpt.protocol.messages import Committed
from distckpt.runtime.session import OnCommit, Session
from distckpt.runtime.ticket import SaveTicket

OpenSession = Callable[[OnCommit, frozenset[str], frozenset[str]], Session]
"""Opens a session; also given how the names of other managers begin, and the names that this one took over."""


@dataclass(slots=True, eq=False)
class _Seat:
    """Of one directory."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    taken_by: Tenancy | None = None
    prefixes: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Follower:
    """A manager as its tenancy sees it. `on_commit` hears of every commit, on the agent's thread; `remember` gets the
    live checkpoints whenever the session was opened again.
    """

    on_commit: OnCommit
    remember: Callable[[Sequence[Checkpoint]], None]

    @classmethod
    def weakly(cls, on_commit: OnCommit, remember: Callable[[Sequence[Checkpoint]], None]) -> Follower:
        """Of two methods; does not keep their manager alive: a session's threads live until it is closed, or was
        forgotten.
        """
        return cls(_weak(on_commit), _weak(remember))


def _weak(method: Callable[..., None]) -> Callable[..., None]:
    reference = weakref.WeakMethod(method)

    def call(*arguments: Any) -> None:
        alive = reference()
        if alive is not None:
            alive(*arguments)

    return call


_seats: dict[str, _Seat] = {}
_seats_lock = threading.Lock()


class Tenancy:
    """One manager's session at `directory` (its real path), opened by `open_session` whenever it must be.

    `session` is the last one, which may be closed; `claim` before using it. `follower` hears what happens.
    """

    session: Session

    def __init__(self, directory: str, prefix: str, open_session: OpenSession, follower: Follower) -> None:
        """Takes the seat and raises what `open_session` raises. `prefix`: how the names of its checkpoints begin."""
        self._prefix = prefix
        self._inherited: frozenset[str] | None = None
        self._followers: tuple[Follower, ...] = (follower,)
        with _seats_lock:
            self._seat = _seats.setdefault(directory, _Seat())
        self._open_session = open_session
        with self._seat.lock:
            self._sit_down()
            self._inherited = frozenset(each.name for each in self.session.checkpoints)

    def follow(self, follower: Follower) -> None:
        """Another manager goes by this session."""
        self._followers += (follower,)

    def claim(self) -> None:
        """Makes sure that `session` is the open one; where it had to be opened again, the followers hear of it."""
        if self._seat.taken_by is self:  # at every step's end: not worth the lock
            return
        with self._seat.lock:
            if self._seat.taken_by is self:
                return
            self._sit_down()
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

    def _sit_down(self) -> None:
        other = self._seat.taken_by
        if other is not None:
            self._seat.taken_by = None
            other.session.hand_over()
        self._seat.prefixes.add(self._prefix)
        if self._inherited is None:  # the first: whatever is there is taken over
            self.session = self._open_session(self._committed, frozenset(), frozenset())
        else:
            others = frozenset(self._seat.prefixes - {self._prefix})
            self.session = self._open_session(self._committed, others, self._inherited)
        self._seat.taken_by = self  # after the session: `claim` looks at it without the lock

    def _committed(self, ticket: SaveTicket, committed: Committed) -> None:
        for follower in self._followers:
            follower.on_commit(ticket, committed)
