"""What the coordinator remembers of rounds that are over: enough to tell those who come late, and no more."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from distckpt.model import Cause
from distckpt.protocol.messages import Aborted, Committed

ENDED_ROUNDS_MAX = 16  # a shard of a round that ended longer ago is left to the next generation's recovery

End = Literal["committed", "aborted", "unknown"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A round that ended before all had come: who comes late to the same thing is told so, once.

    `outcome`: why it was given up, or that it was committed without them. `subjects`: what the round was about (empty:
    whatever is asked next). `owed`: the workers that were not told.
    """

    round: int
    outcome: Cause | Committed
    subjects: frozenset[str]
    owed: frozenset[int]
    expires_at: float

    def answer(self, ordinal: int) -> Aborted | Committed:
        """To the request `ordinal`."""
        if isinstance(self.outcome, Cause):
            return Aborted(self.round, ordinal, self.outcome)
        return replace(self.outcome, ordinal=ordinal)

    def concerns(self, worker: int, subject: str, now: float) -> bool:
        return worker in self.owed and now < self.expires_at and (not self.subjects or subject in self.subjects)


class Outcomes:
    def __init__(self) -> None:
        self._ended: dict[int, tuple[End, frozenset[str]]] = {}
        self._verdict: Verdict | None = None

    def record(self, number: int, end: End, kept: frozenset[str]) -> None:
        """`kept`: the staged files that its commit names."""
        self._ended[number] = end, kept
        if len(self._ended) > ENDED_ROUNDS_MAX:
            del self._ended[next(iter(self._ended))]

    def is_useless(self, number: int, handle: str) -> bool:
        """True if it is certain that nothing was or will be committed that names `handle`, staged for this round."""
        end, kept = self._ended.get(number, ("unknown", frozenset()))
        return end == "aborted" or (end == "committed" and handle not in kept)

    def owe(self, verdict: Verdict) -> None:
        self._verdict = verdict

    def take_verdict(self, worker: int, subject: str, now: float) -> Verdict | None:
        """What `worker`, coming late to `subject`, has to be told; nothing the second time."""
        verdict = self._verdict
        if verdict is None or not verdict.concerns(worker, subject, now):
            return None
        self._verdict = replace(verdict, owed=verdict.owed - {worker})
        return verdict
