"""The workers of a job, as the chronicle follows them: who is there, at which step, and how fast."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from distckpt.observe.happenings import Happening, TrainingHeld, WorkerJoined, WorkerLeft, WorkerLost
from distckpt.observe.picture import Presence as Shown
from distckpt.observe.picture import WorkerView
from distckpt.protocol.membership import Member, Presence
from distckpt.protocol.messages import Activity

SPEED_OVER_S = 30.0
_SPEED_POINTS_MAX = 64
_SHOWN: dict[Presence, Shown] = {
    Presence.PROBING: "joining",
    Presence.PRESENT: "present",
    Presence.LOST: "lost",
    Presence.LEFT: "left",
    Presence.GONE: "lost",
}


@dataclass(slots=True)
class Follow:
    """One worker. Times are of the coordinator's loop."""

    worker: int
    incarnation: str = ""
    presence: Presence | None = None
    heard_at: float = 0.0
    stall_s: float | None = None
    _stall_ordinal: int = 0
    _address: str = ""
    _pid: int = 0
    _points: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_SPEED_POINTS_MAX))

    def see(self, member: Member | None, now: float) -> Iterator[Happening]:
        """What has changed in who is there."""
        if member is None or (member.incarnation == self.incarnation and member.presence is self.presence):
            return
        same = member.incarnation == self.incarnation
        if not same and self.presence is Presence.PRESENT:
            yield WorkerLost(self.worker, now - self.heard_at)
        was, self.presence = self.presence, member.presence
        if not same:
            self._begin(member)
        if member.presence is Presence.PRESENT:
            again = same and was is Presence.LOST
            yield WorkerJoined(self.worker, member.join.host, member.join.pid, again)
        elif member.presence is Presence.LOST:
            yield WorkerLost(self.worker, now - member.heard_at)
        elif member.presence is Presence.LEFT:
            yield WorkerLeft(self.worker, "" if member.left is None else member.left.kind)

    def hear(self, step: int, activity: Activity, now: float) -> Iterator[TrainingHeld]:
        """Takes a heartbeat: what of it is new."""
        self.heard_at = now
        if step >= 0 and (not self._points or self._points[-1][1] != step):
            self._points.append((now, step))
        for stall in activity.stalls:
            if stall.ordinal > self._stall_ordinal:
                self._stall_ordinal = stall.ordinal
                self.stall_s = stall.seconds
                yield TrainingHeld(self.worker, stall.step, stall.seconds)

    def view(self, now: float) -> WorkerView:
        if self.presence is None:
            return WorkerView(self.worker, "absent")
        return WorkerView(
            worker=self.worker,
            presence=_SHOWN[self.presence],
            address=self._address,
            pid=self._pid,
            step=self._points[-1][1] if self._points else -1,
            steps_per_s=self._speed(now),
            heard_s=max(0.0, now - self.heard_at),
            stall_s=self.stall_s,
        )

    def _begin(self, member: Member) -> None:
        self.incarnation = member.incarnation
        self.heard_at = member.heard_at
        self._address = member.join.address or member.join.host
        self._pid = member.join.pid
        self._stall_ordinal = 0
        self.stall_s = None
        self._points.clear()

    def _speed(self, now: float) -> float | None:
        """Steps a second over the last SPEED_OVER_S; None where too little is known."""
        recent = [point for point in self._points if point[0] >= now - SPEED_OVER_S]
        if not recent:
            return 0.0 if self._points else None
        (began, first), (_, last) = recent[0], recent[-1]
        return (last - first) / (now - began) if last > first and now > began else None
