"""What happens in a job, as frozen values: the one source of log records, metrics and scalars.

Times are in seconds, sizes in bytes. Fields are only ever added: log records and metrics are made of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

Outcome = Literal["committed", "aborted", "unknown"]
"""`unknown`: the chief was fenced, or could not learn whether its commit record was written."""


@dataclass(frozen=True, slots=True)
class WorkerJoined:
    """`again`: it was taken for lost, and has spoken."""

    event: ClassVar[str] = "worker_joined"
    worker: int
    host: str
    pid: int
    again: bool


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """It was silent for too long, its connection broke, or another process took its place."""

    event: ClassVar[str] = "worker_lost"
    worker: int
    silent_s: float


@dataclass(frozen=True, slots=True)
class WorkerLeft:
    """`cause`: an error's class name; empty at a normal end."""

    event: ClassVar[str] = "worker_left"
    worker: int
    cause: str


@dataclass(frozen=True, slots=True)
class StepAgreed:
    """A save that no worker foresaw: all save at the first end of a step that is `step` or later. `reason`: who wants
    it. `final`: the job ends after it.
    """

    event: ClassVar[str] = "step_agreed"
    step: int
    reason: str
    final: bool


@dataclass(frozen=True, slots=True)
class WishFailed:
    """A save that no worker foresaw came to nothing."""

    event: ClassVar[str] = "wish_failed"
    cause: str
    message: str


@dataclass(frozen=True, slots=True)
class SaveOpened:
    """The first worker has come to a save."""

    event: ClassVar[str] = "save_opened"
    round: int
    step: int
    name: str


@dataclass(frozen=True, slots=True)
class SaveAgreed:
    """All workers are at this save, and write from now on."""

    event: ClassVar[str] = "save_agreed"
    round: int
    step: int
    gather_s: float


@dataclass(frozen=True, slots=True)
class ShareWritten:
    """`seconds`: from the agreement."""

    event: ClassVar[str] = "share_written"
    round: int
    step: int
    worker: int
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ShareGivenUp:
    """`worker` was lost, late, or could not write: the workers `writers` write its share."""

    event: ClassVar[str] = "share_given_up"
    round: int
    step: int
    worker: int
    writers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ReplicasDiffer:
    """`worker` wrote something else of the mirrored variable `tensor` than `other` holds, and the save is committed all
    the same (`Options(cross_check="warn")`). `tensors`: of how many that was found.
    """

    event: ClassVar[str] = "replicas_differ"
    round: int
    step: int
    tensor: str
    worker: int
    other: int
    tensors: int


@dataclass(frozen=True, slots=True)
class SaveCommitting:
    """All shares are written; the chief commits."""

    event: ClassVar[str] = "save_committing"
    round: int
    step: int
    write_s: float


@dataclass(frozen=True, slots=True)
class SaveEnded:
    """`bytes`: of all files, 0 unless committed. `cause`: an error's class name, empty if committed. `seconds`: since
    the first worker came; `commit_s`: since all shares were written, None if it did not come so far. `committed_at`:
    of the commit, in seconds since the epoch.
    """

    event: ClassVar[str] = "save_ended"
    round: int
    step: int
    name: str
    outcome: Outcome
    cause: str
    message: str
    worker: int | None
    bytes: int
    seconds: float
    commit_s: float | None
    committed_at: float | None


@dataclass(frozen=True, slots=True)
class TrainingHeld:
    """A save held this worker's training thread."""

    event: ClassVar[str] = "training_held"
    worker: int
    step: int
    seconds: float


@dataclass(frozen=True, slots=True)
class RestoreEnded:
    """`name`: what all restore; empty where there is none. `cause`: empty if it was decided."""

    event: ClassVar[str] = "restore_ended"
    round: int
    selector: str
    name: str
    cause: str
    message: str
    seconds: float


@dataclass(frozen=True, slots=True)
class SetAside:
    """A checkpoint was found corrupt."""

    event: ClassVar[str] = "checkpoint_set_aside"
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class ChiefFenced:
    """A later generation has taken the directory over, or this chief can go on no more."""

    event: ClassVar[str] = "chief_fenced"
    cause: str
    message: str


@dataclass(frozen=True, slots=True)
class StepEnded:
    """A training step of the chief, told of by `step_end`. `seconds`: since the one before."""

    event: ClassVar[str] = "step_ended"
    step: int
    seconds: float


Happening = (
    WorkerJoined
    | WorkerLost
    | WorkerLeft
    | StepAgreed
    | WishFailed
    | SaveOpened
    | SaveAgreed
    | ShareWritten
    | ShareGivenUp
    | ReplicasDiffer
    | SaveCommitting
    | SaveEnded
    | TrainingHeld
    | RestoreEnded
    | SetAside
    | ChiefFenced
    | StepEnded
)
