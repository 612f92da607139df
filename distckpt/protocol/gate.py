"""How far this worker's training has come, and how far it may go: where the agent and the training thread meet.

A ceiling is set at the end of the step that the training is in, or comes to next. Until the decision the training is
held when it arrives there, so that no worker can have passed the step that is agreed: the highest of the ceilings.
"""

from __future__ import annotations

from distckpt.protocol.messages import Agreed

MARGIN = 1
"""From the last finished step to the ceiling. More of it would hold the training more rarely, and save later."""


class Gate:
    """Not safe for threads: the runtime holds a lock around each call. `last` is the last finished step."""

    def __init__(self) -> None:
        self.last = -1
        self._proposal = 0
        self._ceiling: int | None = None
        self._agreed: Agreed | None = None

    @property
    def holds(self) -> bool:
        """The training has come to its ceiling, and must wait."""
        return self._ceiling is not None and self.last >= self._ceiling

    def set_ceiling(self, proposal: int) -> int:
        """Sets it, and returns it."""
        self._proposal = proposal
        self._ceiling = self.last + MARGIN
        return self._ceiling

    def lift(self, proposal: int) -> None:
        if proposal == self._proposal:
            self._ceiling = self._agreed = None

    def lift_any(self) -> None:
        self.lift(self._proposal)

    def foresee(self, agreed: Agreed) -> None:
        self._ceiling = None
        self._agreed = agreed

    def take_due(self) -> Agreed | None:
        """The agreed save, if the training is there; once."""
        agreed = self._agreed
        if agreed is None or self.last < agreed.step:
            return None
        self._agreed = None
        return agreed
