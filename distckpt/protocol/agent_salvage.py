"""The agent's side of a salvage: which snapshots of ends of steps are kept, and when one becomes a save.

Two are kept where that may be needed: workers that are cut off at different moments have captured steps that differ by
one interval. When this worker has finished a step beyond the newest, all workers have captured that one (a step of the
training runs collectives, and each worker captures before it begins the next), and the older is released.

Promised: each that was kept is released, or saved, once; a worker that parts is told so within `part_s`, or when the
save that has begun is over.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from distckpt.protocol.deadlines import Deadlines
from distckpt.protocol.effects import Log, Parted, ReleaseKept, SaveKept
from distckpt.protocol.messages import KEPT_MAX
from distckpt.protocol.requests import Outbox


class Keeping:
    """`steps`: of whose ends a snapshot is kept, oldest first. `is_parting`: the training is over here. `may_go`: the
    coordinator has said so.
    """

    def __init__(self, outbox: Outbox, deadlines: Deadlines) -> None:
        self.steps: tuple[int, ...] = ()
        self.is_parting = False
        self.may_go = False
        self._outbox = outbox
        self._deadlines = deadlines
        self._ended = False
        self._asked = False
        self._tried_alone = False
        self._is_told = False
        self._part_until = 0.0

    @property
    def waits(self) -> Sequence[float]:
        """When this is to be looked at."""
        return [self._part_until] if self.is_parting and not self._is_told else []

    @property
    def may_salvage_alone(self) -> bool:
        """Something is kept, and it was not tried already since the coordinator was last heard of."""
        return bool(self.steps) and not self._asked and not self._tried_alone

    def has_newer_than(self, step: int) -> bool:
        """Whether a later one is kept that may be salvaged alone."""
        return self.may_salvage_alone and self.steps[-1] > step

    # ------------------------------------------------------------------------------------------------- from this worker

    def keep(self, step: int) -> None:
        """Takes a snapshot in. Of steps that come again only the new ones count."""
        self._release(kept for kept in self.steps if kept >= step)
        self.steps += (step,)
        self._release(self.steps if self._ended else self.steps[:-KEPT_MAX])

    def progress(self, step: int) -> None:
        if self.steps and step > self.steps[-1]:
            self._release(self.steps[:-1])

    def requested(self, *, is_save: bool) -> None:
        """A request has come. After a restore the training takes another course, and what is kept is of the old one."""
        if is_save:
            self._asked = False
        else:
            self._release(self.steps)

    def part(self) -> None:
        self.is_parting = True
        self._part_until = self._outbox.now + self._deadlines.part_s

    # ----------------------------------------------------------------------------------------------- what becomes of it

    def salvage(self, step: int) -> None:
        """Makes the snapshot of `step` a save, if it is kept."""
        if step in self.steps and not self._asked:
            self._asked = True
            self.steps = tuple(kept for kept in self.steps if kept != step)
            self._outbox.do(SaveKept(step))

    def salvage_alone(self) -> None:
        """The coordinator is silent: the newest becomes a save that this worker, or another, commits without it."""
        self._tried_alone = True
        self._outbox.do(Log("warning", f"no word from the coordinator: the end of step {self.steps[-1]} is salvaged"))
        self.salvage(self.steps[-1])

    def coordinator_lives(self) -> None:
        self._tried_alone = False

    def release_until(self, step: int) -> None:
        """`step` is committed."""
        self._release(kept for kept in self.steps if kept <= step)

    def end(self) -> None:
        """The agent has ended."""
        self._ended = True
        self._release(self.steps)

    def settle(self, *, busy: bool, ended: bool) -> None:
        """Lets a worker that is parting go, if it may. `busy`: a save is under way here."""
        if self._is_told or not self.is_parting or busy or (self._asked and not ended):
            return
        over = self.may_go or self._tried_alone or self._outbox.now >= self._part_until
        if ended or over or not self.steps:
            self._is_told = True
            self._outbox.do(Parted())

    def _release(self, steps: Iterable[int]) -> None:
        gone = tuple(steps)
        self.steps = tuple(kept for kept in self.steps if kept not in gone)
        for step in gone:
            self._outbox.do(ReleaseKept(step))
