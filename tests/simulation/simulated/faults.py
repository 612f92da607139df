"""What may go wrong in one schedule, drawn from its seed. Rates are per message or per operation, times in seconds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Any

from simulated.model import NO_TENSORS, Slow

from distckpt.protocol.deadlines import Deadlines

DEADLINES = Deadlines(
    resend_s=0.5,
    heartbeat_s=1.0,
    silence_s=3.0,
    disconnect_s=0.5,
    join_s=4.0,
    announce_s=3.0,
    write_s=6.0,
    straggler_s=1.0,
    turn_s=0.3,
    commit_s=3.0,
    restore_s=6.0,
    agree_s=2.0,
)


@dataclass(frozen=True, slots=True)
class Faults:
    """`heal_at`: from then on nothing goes wrong any more. `kills`, `freezes`: when that befalls a worker. `full`:
    when the disk fills up, and for how long. `jumps`: when the machines' clocks jump, and how far. `wishes`: when
    someone has one (a save that no worker foresaw). `restart_s`: the launcher takes up to so long to start the job
    again. `snapshot_every`: a snapshot of every so many steps is kept, and the steps are taken together, as with
    collectives (0: none, and each worker goes at its own pace); `save_every`: the same for saves. `slow_tensors` are
    linked while they do not change. The rest are rates; `flipped`, a bit of a worker's memory before it writes, is
    never drawn.
    """

    world_size: int
    keep: int
    heal_at: float
    capture_late: bool
    kills: tuple[float, ...]
    freezes: tuple[float, ...] = ()
    full: tuple[tuple[float, float], ...] = ()
    jumps: tuple[tuple[float, float], ...] = ()
    wishes: tuple[float, ...] = ()
    restart_s: float = 3.0
    snapshot_every: int = 0
    save_every: int = 3
    loss: float = 0.0
    repeat: float = 0.0
    slow: float = 0.0
    cut: float = 0.0
    zombie: float = 0.0
    lone_restart: float = 0.0
    write_slow: float = 0.0
    write_failed: float = 0.0
    wrong_step: float = 0.0
    capture_failed: float = 0.0
    crash: float = 0.0
    stall: float = 0.0
    refused: float = 0.0
    unclear: float = 0.0
    corrupt: float = 0.0
    flipped: float = 0.0
    slow_tensors: Slow = NO_TENSORS

    @property
    def only_kills(self) -> bool:
        """Nothing goes wrong but that processes are killed."""
        return replace(self, kills=(), restart_s=3.0, save_every=3) == self.healed()

    def healed(self) -> Faults:
        """The same job without faults."""
        kept = {"snapshot_every": self.snapshot_every, "slow_tensors": self.slow_tensors}
        return replace(Faults(self.world_size, self.keep, self.heal_at, self.capture_late, ()), **kept)


ONLY_KILLS: dict[str, Any] = {
    **dict.fromkeys(("freezes", "full", "jumps", "wishes"), ()),
    **dict.fromkeys(("loss", "repeat", "slow", "cut", "zombie", "lone_restart", "write_slow", "write_failed"), 0.0),
    **dict.fromkeys(("wrong_step", "capture_failed", "crash", "stall", "refused", "unclear", "corrupt"), 0.0),
    "heal_at": 45.0,
    "restart_s": 40.0,
    "save_every": 1000,
}
"""Emphasis: processes are killed, with time before the next start, and long before the next save."""


def draw(rng: Random) -> Faults:
    """Each kind of fault is there in some schedules only, so that its consequences are not drowned by the others'."""

    def rate(chance: float, highest: float) -> float:
        return rng.uniform(0, highest) if rng.random() < chance else 0.0

    heal_at = rng.uniform(3, 12)
    faults = Faults(
        world_size=rng.choice((1, 2, 2, 2, 3, 3, 4)),
        keep=rng.choice((1, 2, 3)),
        heal_at=heal_at,
        capture_late=rng.random() < 0.3,
        kills=tuple(rng.uniform(0, heal_at) for _ in range(rng.choice((0, 1, 1, 2, 3)))),
        restart_s=rng.choice((3.0, 3.0, 15.0)),
        freezes=tuple(rng.uniform(0, heal_at) for _ in range(rng.choice((0, 0, 1, 2)))),
    )
    wishes = tuple(rng.uniform(0, heal_at) for _ in range(rng.choice((0, 0, 1, 2, 5))))
    full = tuple((rng.uniform(0, heal_at), rng.uniform(0.1, 4)) for _ in range(rng.choice((0, 0, 0, 1, 2))))
    jumps = tuple((rng.uniform(0, heal_at), rng.uniform(-7200, 7200)) for _ in range(rng.choice((0, 0, 1, 3))))
    return replace(
        faults,
        full=full,
        jumps=jumps,
        wishes=wishes,
        snapshot_every=rng.choice((0, 0, 1, 2)),
        save_every=rng.choice((3, 3, 10)),
        loss=rate(0.5, 0.3),
        repeat=rate(0.4, 0.3),
        slow=rate(0.4, 0.2),
        cut=rate(0.2, 0.15),
        zombie=rate(0.5, 1.0),
        lone_restart=rate(0.3, 1.0),
        write_slow=rate(0.3, 0.3),
        write_failed=rate(0.2, 0.2),
        wrong_step=rate(0.15, 0.2),
        capture_failed=rate(0.15, 0.2),
        crash=rate(0.4, 0.03),
        stall=rate(0.4, 0.05),
        refused=rate(0.2, 0.03),
        unclear=rate(0.2, 0.1),
        corrupt=rate(0.15, 0.5),
        slow_tensors=_slow(Random(heal_at)),
    )


def _slow(rng: Random) -> Slow:
    """Drawn apart from the rest, which a seed draws as it did before there were any."""
    tensors = rng.choice(((), (), ("embedding",), ("embedding", "bias"), ("embedding", "kernel", "bias")))
    return Slow(frozenset(tensors), every=rng.choice((2, 5, 1000)))
