"""A state with a table of allowed transitions and a story. Every state machine of the protocol is made of these.

An illegal transition is a bug of distckpt, never of the network: messages that come twice, late or out of order are
sorted out before a transition is tried. It raises IllegalTransition with the object's story, so that one report is
enough to understand it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from enum import Enum
from typing import Generic, TypeVar

STORY_LENGTH_MAX = 32

S = TypeVar("S", bound=Enum)


class IllegalTransition(RuntimeError):
    pass


class Machine(Generic[S]):
    """`what` names the object in errors; `table` lists, for each state, the states that may follow it."""

    __slots__ = ("_story", "_table", "_what", "state")

    def __init__(self, what: str, table: Mapping[S, tuple[S, ...]], start: S) -> None:
        self._what = what
        self._table = table
        self.state = start
        self._story: deque[str] = deque(maxlen=STORY_LENGTH_MAX)

    @property
    def story(self) -> tuple[str, ...]:
        """The last transitions, oldest first, each with its time and reason."""
        return tuple(self._story)

    def go(self, to: S, why: str, now: float) -> None:
        """Makes the transition. Raises IllegalTransition if the table does not have it."""
        self._story.append(f"{now:.3f} {self.state.value} -> {to.value}: {why}")
        if to not in self._table[self.state]:
            raise IllegalTransition(f"{self._what}: illegal transition; its story:\n  " + "\n  ".join(self._story))
        self.state = to
