"""The rounds of a job, as the chronicle follows them: each save by worker and phase, each restore."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from distckpt.model import Cause, Checkpoint
from distckpt.observe.happenings import (
    Happening,
    Outcome,
    ReplicasDiffer,
    RestoreEnded,
    SaveAgreed,
    SaveCommitting,
    SaveEnded,
    SaveOpened,
    ShareGivenUp,
    ShareWritten,
)
from distckpt.observe.picture import PartView, Phase, RestoreView, SaveView
from distckpt.protocol.messages import Activity
from distckpt.protocol.save_round import SaveRound, SaveState
from distckpt.protocol.shares import Shares

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Ending:
    """How a round ended: with `cause`, or with what was committed, or chosen to be restored."""

    outcome: Outcome
    cause: Cause | None = None
    committed: Checkpoint | None = None
    restored: str | None = None


@dataclass(slots=True)
class _Part:
    came_at: float | None
    written_at: float | None = None
    written_bytes: int = 0
    share_bytes: int | None = None
    stall_s: float | None = None
    extra_bytes: int = 0
    given_up_at: float | None = None

    def view(self, worker: int, epoch: float) -> PartView:
        return PartView(
            worker,
            _shift(self.came_at, epoch),
            _shift(self.written_at, epoch),
            self.written_bytes,
            self.share_bytes,
            self.stall_s,
            self.extra_bytes,
            _shift(self.given_up_at, epoch),
        )


@dataclass(slots=True)
class SaveFollow:
    """One save. Times are of the coordinator's loop."""

    number: int
    step: int
    name: str
    opened_at: float
    agreed_at: float | None = None
    committing_at: float | None = None
    ended_at: float | None = None
    ending: Ending | None = None
    parts: dict[int, _Part] = field(default_factory=dict)
    came: int = 0
    shards_seen: int = 0
    splits_seen: int = 0
    reason: str = ""

    def opened(self) -> SaveOpened:
        return SaveOpened(self.number, self.step, self.name)

    def see(self, round_: SaveRound, now: float) -> Iterator[Happening]:
        """What has changed in the open round."""
        for worker in _added(round_.ordinals, self.came):
            self.parts.setdefault(worker, _Part(now)).came_at = now  # it may have been done without before it came
        self.came = len(round_.ordinals)
        if self.agreed_at is None and round_.state in (SaveState.WRITING, SaveState.COMMITTING):
            self.agreed_at = now
            yield SaveAgreed(self.number, self.step, now - self.opened_at)
        if self.agreed_at is not None:
            yield from self._see_shares(round_.shares, now, now - self.agreed_at)
        if self.committing_at is None and self.agreed_at is not None and round_.state is SaveState.COMMITTING:
            self.committing_at = now
            yield SaveCommitting(self.number, self.step, now - self.agreed_at)
            if round_.found:
                first = round_.found[0]
                yield ReplicasDiffer(self.number, self.step, first.tensor, first.worker, first.other, len(round_.found))

    def _see_shares(self, shares: Shares, now: float, seconds: float) -> Iterator[Happening]:
        """What was handed in, and given up. `seconds`: since the agreement."""
        for split in shares.splits[self.splits_seen :]:
            worker = shares.writers[split.share]
            self.parts.setdefault(worker, _Part(None)).given_up_at = now
            yield ShareGivenUp(self.number, self.step, worker, split.writers)
        self.splits_seen = len(shares.splits)
        for number in _added(shares.shards, self.shards_seen):
            shard = shares.shards[number]
            part = self.parts[shard.worker]
            part.written_at = now
            if number == shard.worker:
                part.written_bytes = part.share_bytes = shard.written_bytes
            else:
                part.extra_bytes += shard.written_bytes
            yield ShareWritten(self.number, self.step, shard.worker, shard.written_bytes, seconds)
        self.shards_seen = len(shares.shards)

    def hear(self, worker: int, activity: Activity) -> None:
        """Takes a heartbeat's word of how far the share is."""
        part = self.parts.get(worker)
        if part is not None and part.written_at is None and activity.round == self.number:
            part.written_bytes, part.share_bytes = activity.written_bytes, activity.share_bytes

    def held(self, worker: int, seconds: float) -> None:
        part = self.parts.get(worker)
        if part is not None:
            part.stall_s = seconds

    def end(self, ending: Ending, now: float) -> SaveEnded:
        self.ending, self.ended_at = ending, now
        cause = ending.cause or Cause("", "")
        return SaveEnded(
            round=self.number,
            step=self.step,
            name=self.name,
            outcome=ending.outcome,
            cause=cause.kind,
            message=cause.message,
            worker=cause.worker,
            bytes=0 if ending.committed is None else ending.committed.size_bytes,
            seconds=now - self.opened_at,
            commit_s=None if self.committing_at is None else now - self.committing_at,
            committed_at=None if ending.committed is None else ending.committed.timestamp,
        )

    @property
    def phase(self) -> Phase:
        if self.ending is not None:
            return self.ending.outcome
        if self.committing_at is not None:
            return "committing"
        return "gathering" if self.agreed_at is None else "writing"

    def view(self, epoch: float) -> SaveView:
        """`epoch`: what turns the loop's time into seconds since the epoch."""
        ending = self.ending
        cause = None if ending is None else ending.cause
        committed = None if ending is None else ending.committed
        return SaveView(
            round=self.number,
            step=self.step,
            name=self.name,
            phase=self.phase,
            opened_at=epoch + self.opened_at,
            agreed_at=_shift(self.agreed_at, epoch),
            committing_at=_shift(self.committing_at, epoch),
            ended_at=_shift(self.ended_at, epoch),
            bytes=0 if committed is None else committed.size_bytes,
            cause="" if cause is None else cause.kind,
            message="" if cause is None else cause.message,
            parts=tuple(part.view(worker, epoch) for worker, part in sorted(self.parts.items())),
            reason=self.reason,
        )


@dataclass(slots=True)
class RestoreFollow:
    """One restore."""

    number: int
    selector: str
    opened_at: float
    ended_at: float | None = None
    ending: Ending | None = None

    def end(self, ending: Ending, now: float) -> RestoreEnded:
        self.ending, self.ended_at = ending, now
        cause = ending.cause or Cause("", "")
        seconds = now - self.opened_at
        return RestoreEnded(self.number, self.selector, ending.restored or "", cause.kind, cause.message, seconds)

    def view(self, epoch: float) -> RestoreView:
        ending = self.ending
        return RestoreView(
            selector=self.selector,
            opened_at=epoch + self.opened_at,
            ended_at=_shift(self.ended_at, epoch),
            name="" if ending is None else ending.restored or "",
            cause="" if ending is None or ending.cause is None else ending.cause.kind,
        )


def _added(mapping: dict[int, Value], seen: int) -> list[int]:
    """The keys that were added after the first `seen`: nothing is ever taken out, and those before are many."""
    return list(islice(reversed(mapping), len(mapping) - seen))[::-1]


def _shift(at: float | None, epoch: float) -> float | None:
    return None if at is None else epoch + at
