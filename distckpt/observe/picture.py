"""How a job stands, as frozen values and as JSON: what `distckpt status --json`, the dashboard and the wire carry.

Times (`*_at`) are seconds since the epoch by the chief's clock, None where it has not come; durations end in `_s`, and
sizes are in bytes. Fields are only ever added, each with a default: a reader and a writer of different versions
understand each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from distckpt.errors import CorruptData

Presence = Literal["absent", "joining", "present", "lost", "left"]
Phase = Literal["gathering", "writing", "committing", "committed", "aborted", "unknown"]


@dataclass(frozen=True, slots=True)
class WorkerView:
    """`steps_per_s`: over the last seconds. `heard_s`: how long ago it was heard of. `stall_s`: of its last save."""

    worker: int
    presence: Presence
    address: str = ""
    pid: int = 0
    step: int = -1
    steps_per_s: float | None = None
    heard_s: float | None = None
    stall_s: float | None = None


@dataclass(frozen=True, slots=True)
class PartView:
    """One worker's part in a save. `share_bytes` is known once it writes; `stall_s` once its training went on.

    `written_at`: when it handed in its last share so far. `extra_bytes`: what it wrote of shares that others gave up;
    `given_up_at`: when its own was.
    """

    worker: int
    came_at: float | None = None
    written_at: float | None = None
    written_bytes: int = 0
    share_bytes: int | None = None
    stall_s: float | None = None
    extra_bytes: int = 0
    given_up_at: float | None = None


@dataclass(frozen=True, slots=True)
class SaveView:
    """`bytes`: of all files of the checkpoint, once committed. `reason`: why, where no worker foresaw it."""

    round: int
    step: int
    name: str
    phase: Phase
    opened_at: float
    agreed_at: float | None = None
    committing_at: float | None = None
    ended_at: float | None = None
    bytes: int = 0
    cause: str = ""
    message: str = ""
    parts: tuple[PartView, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RestoreView:
    selector: str
    opened_at: float
    ended_at: float | None = None
    name: str = ""
    cause: str = ""


@dataclass(frozen=True, slots=True)
class TroubleView:
    """`cause`: the class name of an error in `distckpt.errors`."""

    at: float
    cause: str
    message: str


@dataclass(frozen=True, slots=True)
class StepsView:
    """Training steps of the chief up to `step`: the mean and the longest time of one."""

    at: float
    step: int
    mean_s: float
    longest_s: float


@dataclass(frozen=True, slots=True)
class CheckpointView:
    """`kept`: why retention leaves it alone. A metric that is not finite is None."""

    name: str
    step: int
    committed_at: float
    generation: int
    bytes: int
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    kept: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Picture:
    """`source`: "live" from the coordinator, "journal" where none answers. All lists: the oldest first.

    `note`: why not live. `saves`: the last ones, that in flight among them; `troubles`: what failed.
    """

    source: Literal["live", "journal"]
    directory: str
    at: float
    note: str = ""
    job: str = ""
    generation: int = 0
    world_size: int = 0
    begun_at: float | None = None
    workers: tuple[WorkerView, ...] = ()
    saves: tuple[SaveView, ...] = ()
    restores: tuple[RestoreView, ...] = ()
    troubles: tuple[TroubleView, ...] = ()
    steps: tuple[StepsView, ...] = ()
    checkpoints: tuple[CheckpointView, ...] = ()

    @property
    def in_flight(self) -> SaveView | None:
        """The save that has not ended."""
        return self.saves[-1] if self.saves and self.saves[-1].ended_at is None else None

    @property
    def last_commit_at(self) -> float | None:
        return self.checkpoints[-1].committed_at if self.checkpoints else None


def encode(picture: Picture) -> bytes:
    """As JSON."""
    return msgspec.json.encode(picture)


def decode(data: bytes, source: str) -> Picture:
    """Raises CorruptData, naming `source`, where it is no picture."""
    try:
        return msgspec.json.decode(data, type=Picture)
    except (msgspec.DecodeError, RecursionError) as error:
        raise CorruptData(source, f"is no picture of a job: {error}") from error
