"""Every wait of the protocol, in seconds. Nothing waits without one of these (invariant I5)."""

from __future__ import annotations

from dataclasses import dataclass, replace

REPEATED_PER_S_MAX = 250.0
"""Heartbeats, and repetitions, of all workers together: a coordinator takes some thousand messages a second."""
BEATS_IN_SILENCE = 5.0


@dataclass(frozen=True, slots=True)
class Deadlines:
    """`resend_s`: a message without its answer is repeated after this. `heartbeat_s`: the interval of heartbeats.

    `silence_s`: a worker not heard of for this long is lost. `disconnect_s`: a worker whose connection broke is lost if
    it has not spoken again after this. `join_s`: all workers must have joined by then. `announce_s`: from the first
    announcement (or restore request) of a round to the last. `write_s`: from the decision to the last share.
    `straggler_s`: a share that takes longer than this, and twice as long as the slowest that is in, is given to those
    who are done. `commit_s`: from the last share to the commit. `restore_s`: from a restore's first request to its
    decision. `agree_s`: from the proposal of a save that no worker foresaw to the decision at which step it is.
    `turn_s`: a coordinator that is lost must show no sign of life for this long before a survivor takes its save over;
    each survivor gives those before it as long again.
    """

    resend_s: float = 0.5
    heartbeat_s: float = 0.5
    silence_s: float = 15.0
    disconnect_s: float = 2.0
    join_s: float = 120.0
    announce_s: float = 60.0
    write_s: float = 600.0
    straggler_s: float = 60.0
    turn_s: float = 5.0
    commit_s: float = 120.0
    restore_s: float = 600.0
    agree_s: float = 10.0

    @property
    def takeover_s(self) -> float:
        """So long a save whose coordinator is lost has to be taken over and committed by a survivor."""
        return self.write_s + self.commit_s

    @property
    def part_s(self) -> float:
        """So long a worker whose training is over stays for a loss to be noticed, where it keeps what is not committed.
        A save of that, once it has begun, has the time of any save.
        """
        return self.silence_s + 2 * self.disconnect_s

    @property
    def save_s(self) -> float:
        """After this a worker that waits for a save's outcome of a coordinator that lives gives up waiting."""
        return self.announce_s + self.write_s + self.commit_s

    @property
    def held_s(self) -> float:
        """So long at most a training thread waits at its ceiling; the coordinator decides, or withdraws, before."""
        return self.agree_s + self.disconnect_s

    def for_world(self, world_size: int) -> Deadlines:
        """The same, but for intervals at which so many workers would keep the coordinator from its work.

        Up to 125 workers nothing changes with the defaults. A connection that breaks is noticed by gRPC, not by these;
        its pings follow `silence_s` (`rpc.transport.keepalive`).
        """
        interval_s = world_size / REPEATED_PER_S_MAX
        heartbeat_s = max(self.heartbeat_s, interval_s)
        silence_s = max(self.silence_s, BEATS_IN_SILENCE * interval_s)
        return replace(self, heartbeat_s=heartbeat_s, silence_s=silence_s, resend_s=max(self.resend_s, interval_s))
