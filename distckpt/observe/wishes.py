"""Saves that no worker foresaw, as the chronicle follows them: what was agreed on, and what came to nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from distckpt.observe.happenings import StepAgreed, WishFailed
from distckpt.protocol import effects, messages

REMEMBERED_MAX = 64
"""So many answers are remembered: who asks again is answered again, and it is told once."""


class Wishes:
    def __init__(self) -> None:
        self._agreed = messages.Agreed(0, -1, "", final=False)
        self._told: deque[tuple[str, int]] = deque(maxlen=REMEMBERED_MAX)

    def see(self, effected: Sequence[effects.CoordinatorEffect]) -> Iterator[StepAgreed | WishFailed]:
        """What the coordinator has just said of them."""
        for effect in effected:
            match effect:
                case effects.Send(messages.CoordinatorEnvelope(_, messages.Agreed() as agreed)):
                    if agreed.proposal > self._agreed.proposal:
                        self._agreed = agreed
                        yield StepAgreed(agreed.step, agreed.reason, agreed.final)
                case effects.Send(messages.CoordinatorEnvelope(receiver, messages.WishOver() as over)):
                    yield from self._over(receiver.incarnation, over)
                case effects.WishAnswered(over):
                    yield from self._over("", over)

    def reason_of(self, step: int) -> str:
        """Why there is a save of `step`, which begins now; empty where its workers foresaw it."""
        agreed = self._agreed
        if not 0 <= agreed.step <= step:
            return ""
        self._agreed = messages.Agreed(agreed.proposal, -1, "", final=False)
        return agreed.reason

    def _over(self, incarnation: str, over: messages.WishOver) -> Iterator[WishFailed]:
        key = (incarnation, over.number)
        if over.cause is not None and key not in self._told:
            self._told.append(key)
            yield WishFailed(over.cause.kind, over.cause.message)
