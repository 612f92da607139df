"""Everything that distckpt raises, as one tree. The first level says what to do.

DistckptError
├── RetryableError            nothing was committed and nothing is lost: the next save may succeed
│   └── SaveAborted           this round was given up, on all workers, with one cause
│       ├── StepMismatch          workers saved different steps
│       ├── ModelMismatch         workers hold different tensors
│       ├── WorkerMissing         a worker did not come to a save or a restore within the deadline
│       ├── WorkerLost            a worker died, or was silent for too long, during a round
│       ├── WriteFailed           a worker could not write its share
│       │   └── StorageFull           because the storage is full
│       └── DeadlineExceeded      the round took longer than its deadline
├── FatalError                this manager can do no more: fix the cause and start again
│   ├── Fenced                    a later generation of the job has taken the directory over
│   ├── ReplicasDiffer            workers hold different values of a mirrored variable: restore an earlier checkpoint
│   ├── DirectoryInUse            another job that is alive holds the directory
│   ├── DirectoryMismatch         the directory is not the same on all workers
│   ├── DirectoryNotWritable      the directory cannot be created or written
│   ├── CoordinatorUnreachable    the chief was not found, or not heard of, within the deadline
│   ├── Refused                   the coordinator does not accept this worker
│   ├── UnsupportedState          the checkpoint holds something that cannot be saved (also a ValueError)
│   ├── ConfigurationError        an argument or a setting that cannot be (also a ValueError)
│   └── ManagerClosed             the manager was closed
├── OutcomeUnknown            it may or may not have happened: look before acting
├── StorageError              the storage failed (also an OSError where there was an errno)
│   ├── ObjectMissing             there is no such object
│   ├── InvalidName               a name that no object of the directory can have (also a ValueError)
│   └── StorageNoSpace            there is no space left
└── CorruptData               bytes that are not what was written: the thing is named
    ├── CorruptCheckpoint         of a checkpoint
    ├── CorruptJournal            of the journal
    └── NoRestorableCheckpoint    checkpoints exist, and none of them can be restored
"""

from __future__ import annotations

from typing import Literal

from distckpt.model import Cause

Advice = Literal["retry", "give up", "look"]


class DistckptError(Exception):
    """The root. `advice` is "retry", "give up" or "look" (the outcome is unknown: look before acting)."""

    advice: Advice = "give up"


class RetryableError(DistckptError):
    advice: Advice = "retry"


class SaveAborted(RetryableError):
    """A round was given up. `worker` is the index of the worker that caused it, where one did."""

    def __init__(self, message: str, worker: int | None = None) -> None:
        super().__init__(message)
        self.worker = worker


class StepMismatch(SaveAborted):
    pass


class ModelMismatch(SaveAborted):
    pass


class WorkerMissing(SaveAborted):
    pass


class WorkerLost(SaveAborted):
    pass


class WriteFailed(SaveAborted):
    pass


class StorageFull(WriteFailed):
    pass


class DeadlineExceeded(SaveAborted):
    pass


class FatalError(DistckptError):
    """`worker` is the index of the worker that it is about, where there is one."""

    def __init__(self, message: str, worker: int | None = None) -> None:
        super().__init__(message)
        self.worker = worker


class Fenced(FatalError):
    pass


class ReplicasDiffer(FatalError):
    pass


class DirectoryInUse(FatalError):
    pass


class DirectoryMismatch(FatalError):
    pass


class DirectoryNotWritable(FatalError):
    pass


class CoordinatorUnreachable(FatalError):
    pass


class Refused(FatalError):
    pass


class UnsupportedState(FatalError, ValueError):
    pass


class ConfigurationError(FatalError, ValueError):
    pass


class ManagerClosed(FatalError):
    pass


class OutcomeUnknown(DistckptError):
    advice: Advice = "look"

    def __init__(self, message: str, worker: int | None = None) -> None:
        super().__init__(message)
        self.worker = worker


class StorageError(DistckptError):
    """An operation of the storage failed; `key` is the object it was about."""

    advice: Advice = "retry"

    def __init__(self, message: str, key: str = "") -> None:
        super().__init__(message)
        self.key = key


class ObjectMissing(StorageError):
    pass


class InvalidName(StorageError, ValueError):
    """A key or handle that would lead out of the directory, or that no file can have: whoever gave it is wrong."""

    advice: Advice = "give up"


class StorageNoSpace(StorageError):
    pass


class CorruptData(DistckptError):
    """`path` names the file; `detail` what in it is wrong."""

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(f"{path}: {detail}")
        self.path = path
        self.detail = detail


class CorruptCheckpoint(CorruptData):
    pass


class CorruptJournal(CorruptData):
    pass


class NoRestorableCheckpoint(CorruptData):
    pass


_TRAVELLERS: dict[str, type[SaveAborted | FatalError | OutcomeUnknown]] = {
    cls.__name__: cls
    for cls in (
        SaveAborted,
        StepMismatch,
        ModelMismatch,
        WorkerMissing,
        WorkerLost,
        WriteFailed,
        StorageFull,
        DeadlineExceeded,
        FatalError,
        Fenced,
        ReplicasDiffer,
        DirectoryInUse,
        DirectoryMismatch,
        DirectoryNotWritable,
        CoordinatorUnreachable,
        Refused,
        UnsupportedState,
        ConfigurationError,
        ManagerClosed,
        OutcomeUnknown,
    )
}

_CORRUPTIONS: dict[str, type[CorruptData]] = {
    cls.__name__: cls for cls in (CorruptCheckpoint, CorruptJournal, NoRestorableCheckpoint)
}


def error_from(cause: Cause) -> DistckptError:
    """The error that `cause` stands for, to be raised on a worker other than the one where it arose."""
    if cause.kind in _CORRUPTIONS:
        return _CORRUPTIONS[cause.kind]("the checkpoints", cause.message)
    return _TRAVELLERS.get(cause.kind, SaveAborted)(cause.message, cause.worker)


def cause_of(error: BaseException, worker: int) -> Cause:
    """The cause that tells other workers of `error`, which arose on `worker`."""
    if isinstance(error, StorageNoSpace):
        return Cause("StorageFull", f"worker {worker}: {error}", worker)
    kind = type(error).__name__
    if kind in _TRAVELLERS or kind in _CORRUPTIONS:
        blamed = getattr(error, "worker", None)
        return Cause(kind, str(error), worker if blamed is None else blamed)
    return Cause("WriteFailed", f"worker {worker}: {type(error).__name__}: {error}", worker)
