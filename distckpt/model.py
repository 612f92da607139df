"""The frozen values that all layers share. Imports nothing of distckpt; knows no TensorFlow, clock, file or socket.

Words are DESIGN's: a *worker* is named by its index in the cluster (the chief first: index 0); a *share* is what one
worker writes of a save, a *shard* the file that holds it; a *generation* is one start of the job; a *round* is one
attempt to save one step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

CHIEF = 0
NO_METRICS: Mapping[str, float] = MappingProxyType({})
StepMetrics = Mapping[str, float] | Callable[[], Mapping[str, float]] | None
"""What `step_end` takes: metrics, or what gathers them once they are needed."""


@dataclass(frozen=True, slots=True)
class Place:
    """This process's place in the cluster: its index (the chief is 0) and the addresses of all workers, by index.

    `addresses` come from the cluster's configuration (TF_CONFIG) and are empty where there is one worker.
    """

    worker: int
    world_size: int
    addresses: tuple[str, ...] = ()

    @property
    def is_chief(self) -> bool:
        return self.worker == CHIEF


@dataclass(frozen=True, slots=True, order=True)
class Extent:
    """A half-open range `[start, start + length)` of one dimension of a tensor."""

    start: int
    length: int

    @property
    def end(self) -> int:
        return self.start + self.length


Slice = tuple[Extent, ...]
"""One extent for each dimension of the full tensor, explicit also where the dimension is whole."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What must be written of one tensor, known before it is captured.

    `name` is the key in the checkpoint, `dtype` TensorFlow's `DataType` number, `shape` the shape of the full tensor.
    `size_bytes` is what it takes in a data file; for variable-length types (strings, variants) an estimate.
    `part` is set where this tensor is itself a part of a larger one (a shard of a `ShardedVariable`).
    `divisible` says that it may be cut along its first axis: fixed-width elements, rank >= 1, no `part`.
    """

    name: str
    dtype: int
    shape: tuple[int, ...]
    size_bytes: int
    part: Slice | None = None
    divisible: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """What is written in one go: a whole tensor (`rows` is None) or the rows `rows` of its first axis."""

    tensor: str
    size_bytes: int
    rows: Extent | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """What one worker writes of the replicated tensors in a save."""

    worker: int
    pieces: tuple[Piece, ...]

    @property
    def size_bytes(self) -> int:
        return sum(piece.size_bytes for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class Split:
    """Share number `share` was given up: `writers` write it instead, each a share of its own (`protocol.plan`)."""

    share: int
    writers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one tensor, or one slice of it, stands in a data file; a line of the index.

    `shape` is the full tensor's. `part` is the slice that this entry holds, None for a whole tensor.
    `crc32c` is the plain (unmasked) CRC32C that TensorFlow defines for the dtype.
    """

    name: str
    dtype: int
    shape: tuple[int, ...]
    offset: int
    size_bytes: int
    crc32c: int
    part: Slice | None = None


@dataclass(frozen=True, slots=True)
class StagedState:
    """What only one worker has (`worker_state=`), staged: the data file and the index of a checkpoint of its own.

    `world_size`: how many workers the job has. `sha256` is of the index, which holds the checksum of every tensor.
    """

    world_size: int
    data_handle: str
    data_bytes: int
    index_handle: str
    index_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class DataFile:
    """A staged data file. `linked`: it is another name of one of an earlier save, and nothing was written.

    `entries` are those that count now: what a linked file holds beside them belongs to no tensor any more.
    """

    handle: str
    size_bytes: int
    entries: tuple[Entry, ...]
    linked: bool = False


NO_FILE = DataFile("", 0, ())


@dataclass(frozen=True, slots=True)
class Shard:
    """A staged data file: written, durable, not yet visible. `handle` is what storage's `publish` takes.

    A worker that had nothing to write has no file: its `handle` is empty. `state` comes along where it has a state of
    its own, `frozen` where what the save before held already, byte for byte, is in a file apart.
    """

    worker: int
    handle: str
    size_bytes: int
    entries: tuple[Entry, ...]
    state: StagedState | None = None
    frozen: DataFile | None = None

    @property
    def handles(self) -> tuple[str, ...]:
        """Of all that is staged."""
        own = () if self.state is None else (self.state.data_handle, self.state.index_handle)
        return (*(file.handle for file in self.data_files), *own)

    @property
    def data_files(self) -> tuple[DataFile, ...]:
        """Two, one or none."""
        own = (DataFile(self.handle, self.size_bytes, self.entries),) if self.handle else ()
        return own if self.frozen is None else (*own, self.frozen)

    @property
    def written_bytes(self) -> int:
        """How much of the data files was written for this save; the rest is linked."""
        return sum(file.size_bytes for file in self.data_files if not file.linked)


@dataclass(frozen=True, slots=True)
class Sum:
    """The plain CRC32C of `tensor`, or of a slice of it that begins with row `start`."""

    tensor: str
    start: int
    crc32c: int


@dataclass(frozen=True, slots=True)
class Check:
    """What a worker found of share number `share`, which another one writes, in its own memory."""

    share: int
    sums: tuple[Sum, ...]


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A published file of a checkpoint: its name below the directory, size, and the staged handle it came from."""

    name: str
    size_bytes: int
    handle: str = ""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A committed checkpoint, as the journal knows it.

    `name` is TensorFlow's prefix below the directory (`ckpt-100`); `step` the number in it; `timestamp` the commit's
    time in seconds since the epoch; `files` every file but the state file, the index last. `manifest_sha256` is empty
    for a checkpoint that plain TensorFlow wrote and distckpt adopted: it has no manifest. `preserved`: it has left the
    active set for good (TensorFlow's `keep_checkpoint_every_n_hours`): retention never looks at it again.
    """

    name: str
    step: int
    timestamp: float
    generation: int
    files: tuple[FileRecord, ...] = field(default=(), hash=False)  # thousands, in a large job
    manifest_sha256: str = ""
    metrics: Mapping[str, float] = field(default_factory=lambda: NO_METRICS, hash=False)
    preserved: bool = False

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    @property
    def adopted(self) -> bool:
        return not self.manifest_sha256


@dataclass(frozen=True, slots=True)
class StateFiles:
    """The published state of one worker: a TensorFlow checkpoint of its own with the prefix `name`.

    `sha256` is of the index, in which every tensor's checksum stands.
    """

    worker: int
    name: str
    data: FileRecord
    index: FileRecord
    sha256: str


@dataclass(frozen=True, slots=True)
class WorkerStates:
    """What only single workers had (`worker_state=`), by worker; `world_size` of them saved the checkpoint."""

    world_size: int
    files: tuple[StateFiles, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """Describes one checkpoint to people and tools; stands beside it as `NAME.manifest.json`.

    `shards` are the data files in shard order with `workers[i]` their writer, `linked` the numbers of those that are
    other names of files of earlier checkpoints; `index` the index file, whose content has `index_sha256`; every
    tensor's checksum stands in the index. `tensor_bytes` is the model's size.
    `missing_workers` did not live to write: what only they had (not the same on all workers) is not in it. `states`:
    None where no worker had a state of its own.
    """

    name: str
    step: int
    generation: int
    job: str
    timestamp: float
    shards: tuple[FileRecord, ...]
    workers: tuple[int, ...]
    index: FileRecord
    index_sha256: str
    tensors: int
    tensor_bytes: int
    metrics: Mapping[str, float] = field(default_factory=lambda: NO_METRICS, hash=False)
    missing_workers: tuple[int, ...] = ()
    states: WorkerStates | None = None
    linked: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Cause:
    """Why something failed, fit to travel: `kind` is the class name of an error in `distckpt.errors`."""

    kind: str
    message: str
    worker: int | None = None
