"""How far this worker's training has come, and how far it may go: where the agent and the training thread meet.

A ceiling is set at the end of the step that the training is in, or comes to next. Until the decision the training is
held when it arrives there, so that no worker can have passed the step that is agreed: the highest of the ceilings.
"""

from __future__ import annotations

from distckpt.protocol.messages import Agreed

MARGIN = 1
"""From the last finished step to the ceiling. More of it would hold the training more rarely, and save later."""


class Gate:
    """`last` is the last finished step. The runtime holds a lock around each call but `ended`."""

    def __init__(self) -> None:
        self.last = -1
        self._guarded = False
        self._proposal = 0
        self._ceiling: int | None = None
        self._agreed: Agreed | None = None

    def ended(self, step: int) -> bool:
        """The training has finished `step`. False: it goes on at once. True: under the lock, it waits while the gate
        `holds`, and then asks what it has to `take_due`.

        Safe without the lock, on the training thread. That says where it is and then looks whether there is a guard;
        `set_ceiling` puts the guard there and then looks where the training is: one of the two sees the other. (Python
        carries out both in this order, and each in one piece.)
        """
        self.last = step
        return self._guarded

    @property
    def holds(self) -> bool:
        """The training has come to its ceiling, and must wait."""
        return self._ceiling is not None and self.last >= self._ceiling

    def set_ceiling(self, proposal: int) -> int:
        """Sets it, and returns it."""
        self._guarded = True
        self._proposal = proposal
        self._ceiling = self.last + MARGIN
        return self._ceiling

    def lift(self, proposal: int) -> None:
        if proposal == self._proposal:
            self._ceiling = self._agreed = None
            self._guarded = False

    def lift_any(self) -> None:
        self.lift(self._proposal)

    def foresee(self, agreed: Agreed) -> None:
        self._ceiling = None
        self._agreed = agreed
        self._guarded = True

    def take_due(self) -> Agreed | None:
        """The agreed save, if the training is there; once."""
        agreed = self._agreed
        if agreed is None or self.last < agreed.step:
            return None
        self._agreed = None
        self._guarded = self._ceiling is not None
        return agreed
