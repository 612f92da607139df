"""What stands in the journal's slots, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass

from distckpt.model import Checkpoint


@dataclass(frozen=True, slots=True)
class Process:
    """One process, told apart from all others that have been or will be on any machine.

    `boot` is the machine's boot id, `namespace` the PID namespace in which `pid` counts (containers have their own),
    `started` the process's start in clock ticks since boot. Each is empty where the system does not tell.
    """

    host: str
    pid: int
    boot: str = ""
    namespace: str = ""
    started: str = ""

    def __str__(self) -> str:
        return f"pid {self.pid} on {self.host}"


@dataclass(frozen=True, slots=True)
class GenerationRecord:
    """`generation` begins, and all before it are sealed. `process` is its chief, `world` the workers' addresses.

    `nonce` is drawn at every start. `timestamp` (seconds since the epoch) is for people; nothing is decided by it.
    """

    generation: int
    job: str
    nonce: str
    process: Process
    world: tuple[str, ...]
    timestamp: float


@dataclass(frozen=True, slots=True)
class CommitRecord:
    """`checkpoint` exists. A live one of the same name is replaced by it."""

    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class AdoptRecord:
    """Checkpoints that plain TensorFlow wrote into the directory, oldest first, are the journal's from now on."""

    checkpoints: tuple[Checkpoint, ...]


@dataclass(frozen=True, slots=True)
class PreserveRecord:
    """Checkpoints leave the active set and stay: nothing retires them any more (`keep_checkpoint_every_n_hours`)."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RetireRecord:
    """Checkpoints cease to exist; their files are deleted after this."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class QuarantineRecord:
    """A checkpoint that turned out to be corrupt ceases to exist; its files are set aside after this."""

    name: str
    reason: str


Record = GenerationRecord | CommitRecord | AdoptRecord | PreserveRecord | RetireRecord | QuarantineRecord


@dataclass(frozen=True, slots=True)
class Entry:
    """One slot: `record`, written by `generation`. `nonce` is drawn for each write: same bytes, same writer."""

    slot: int
    generation: int
    nonce: str
    record: Record
