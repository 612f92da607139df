"""The agent's side of saves that no worker foresaw: its own wishes, and its part in agreeing on a step.

All of it happens on the agent's thread: a training thread that sits inside a long step holds nobody up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from distckpt.model import Cause
from distckpt.protocol.deadlines import Deadlines
from distckpt.protocol.effects import Foresee, LiftCeiling, Log, SetCeiling, WishResolved
from distckpt.protocol.events import CeilingSet, WishMade
from distckpt.protocol.messages import AgentMessage, Agreed, Ceiling, Propose, SaveWanted, Wish, WishOver, Withdrawn
from distckpt.protocol.requests import Outbox


@dataclass(frozen=True, slots=True)
class _Asked:
    wish: Wish
    give_up_at: float


class Ceilings:
    """Promised: the training is held for `held_s` at most; a wish is over `silence_s` after its time or before."""

    def __init__(self, outbox: Outbox, deadlines: Deadlines) -> None:
        self._outbox = outbox
        self._deadlines = deadlines
        self._wishes: dict[int, _Asked] = {}
        self._proposal = 0
        self._ceiling: Ceiling | None = None
        self._held_until = 0.0
        self._open = False

    @property
    def messages(self) -> Sequence[AgentMessage]:
        """What is to be repeated."""
        wanted = [SaveWanted(number, asked.wish) for number, asked in self._wishes.items()]
        return [*wanted, self._ceiling] if self._ceiling is not None else wanted

    @property
    def waits(self) -> Sequence[float]:
        """When this is to be looked at."""
        until = [asked.give_up_at for asked in self._wishes.values()]
        return [*until, self._held_until] if self._ceiling is not None else until

    def check_time(self, now: float) -> None:
        for number, asked in list(self._wishes.items()):
            if now >= asked.give_up_at:
                told = f"{asked.wish.reason}: no answer of the coordinator within {asked.wish.within_s:g} s"
                self._resolve(WishOver(number, cause=Cause("DeadlineExceeded", told, self._outbox.me.worker)))
        if self._ceiling is not None and now >= self._held_until:
            held = f"no decision on proposal {self._proposal} within {self._deadlines.held_s:g} s: training goes on"
            self._outbox.do(Log("warning", held))
            self._held_until = math.inf  # what was decided is asked on: the others may be saving
            self._outbox.do(LiftCeiling(self._proposal))

    def end(self, cause: Cause) -> None:
        """The agent has ended: nothing is waited for any more."""
        for number in list(self._wishes):
            self._resolve(WishOver(number, cause=cause))
        if self._open:
            self._lift()

    # ------------------------------------------------------------------------------------------------- from this worker

    def wish(self, event: WishMade) -> None:
        give_up_at = self._outbox.now + event.wish.within_s + self._deadlines.silence_s
        self._wishes[event.number] = _Asked(event.wish, give_up_at)
        self._outbox.tell(SaveWanted(event.number, event.wish))

    def refuse(self, event: WishMade, cause: Cause) -> None:
        """A wish that comes after the end."""
        self._outbox.do(WishResolved(WishOver(event.number, cause=cause)))

    def ceiling_set(self, event: CeilingSet) -> None:
        if event.proposal == self._proposal and self._open:
            self._ceiling = Ceiling(event.proposal, event.step)
            self._held_until = self._outbox.now + self._deadlines.held_s
            self._outbox.tell(self._ceiling)

    # --------------------------------------------------------------------------------------------- from the coordinator

    def propose(self, message: Propose) -> None:
        if message.proposal > self._proposal:
            self._proposal, self._ceiling, self._open = message.proposal, None, True
            self._outbox.do(SetCeiling(message.proposal))

    def agree(self, message: Agreed) -> None:
        """Also where this worker has waited too long and gone on: the other workers hear at once where it is."""
        if message.proposal == self._proposal and self._open:
            self._open, self._ceiling = False, None
            self._outbox.do(Foresee(message))

    def withdraw(self, message: Withdrawn) -> None:
        """Also one that is agreed on already: the training saves on its account only if it has begun to."""
        if message.proposal == self._proposal:
            self._lift()

    def over(self, message: WishOver) -> None:
        if message.number in self._wishes:
            self._resolve(message)

    # ------------------------------------------------------------------------------------------------------------ ends

    def _lift(self) -> None:
        self._open, self._ceiling = False, None
        self._outbox.do(LiftCeiling(self._proposal))

    def _resolve(self, answer: WishOver) -> None:
        del self._wishes[answer.number]
        self._outbox.do(WishResolved(answer))
