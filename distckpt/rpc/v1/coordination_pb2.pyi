from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Sender(_message.Message):
    __slots__ = ("job", "generation", "worker", "incarnation")
    JOB_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    job: str
    generation: int
    worker: int
    incarnation: str
    def __init__(self, job: _Optional[str] = ..., generation: _Optional[int] = ..., worker: _Optional[int] = ..., incarnation: _Optional[str] = ...) -> None: ...

class AgentEnvelope(_message.Message):
    __slots__ = ("sender", "join", "heartbeat", "announce", "described", "written", "failed", "restore_request", "verified", "leave", "not_written", "save_wanted", "ceiling", "fragment")
    SENDER_FIELD_NUMBER: _ClassVar[int]
    JOIN_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    ANNOUNCE_FIELD_NUMBER: _ClassVar[int]
    DESCRIBED_FIELD_NUMBER: _ClassVar[int]
    WRITTEN_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    RESTORE_REQUEST_FIELD_NUMBER: _ClassVar[int]
    VERIFIED_FIELD_NUMBER: _ClassVar[int]
    LEAVE_FIELD_NUMBER: _ClassVar[int]
    NOT_WRITTEN_FIELD_NUMBER: _ClassVar[int]
    SAVE_WANTED_FIELD_NUMBER: _ClassVar[int]
    CEILING_FIELD_NUMBER: _ClassVar[int]
    FRAGMENT_FIELD_NUMBER: _ClassVar[int]
    sender: Sender
    join: Join
    heartbeat: Heartbeat
    announce: Announce
    described: Described
    written: Written
    failed: Failed
    restore_request: RestoreRequest
    verified: Verified
    leave: Leave
    not_written: NotWritten
    save_wanted: SaveWanted
    ceiling: Ceiling
    fragment: Fragment
    def __init__(self, sender: _Optional[_Union[Sender, _Mapping]] = ..., join: _Optional[_Union[Join, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., announce: _Optional[_Union[Announce, _Mapping]] = ..., described: _Optional[_Union[Described, _Mapping]] = ..., written: _Optional[_Union[Written, _Mapping]] = ..., failed: _Optional[_Union[Failed, _Mapping]] = ..., restore_request: _Optional[_Union[RestoreRequest, _Mapping]] = ..., verified: _Optional[_Union[Verified, _Mapping]] = ..., leave: _Optional[_Union[Leave, _Mapping]] = ..., not_written: _Optional[_Union[NotWritten, _Mapping]] = ..., save_wanted: _Optional[_Union[SaveWanted, _Mapping]] = ..., ceiling: _Optional[_Union[Ceiling, _Mapping]] = ..., fragment: _Optional[_Union[Fragment, _Mapping]] = ...) -> None: ...

class Fragment(_message.Message):
    __slots__ = ("data", "last")
    DATA_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    last: bool
    def __init__(self, data: _Optional[bytes] = ..., last: bool = ...) -> None: ...

class CoordinatorEnvelope(_message.Message):
    __slots__ = ("receiver", "welcome", "rejected", "decided", "describe", "committed", "aborted", "verify", "restore_decided", "fenced_off", "alive", "propose", "agreed", "withdrawn", "wish_over", "salvage")
    RECEIVER_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    DECIDED_FIELD_NUMBER: _ClassVar[int]
    DESCRIBE_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    ABORTED_FIELD_NUMBER: _ClassVar[int]
    VERIFY_FIELD_NUMBER: _ClassVar[int]
    RESTORE_DECIDED_FIELD_NUMBER: _ClassVar[int]
    FENCED_OFF_FIELD_NUMBER: _ClassVar[int]
    ALIVE_FIELD_NUMBER: _ClassVar[int]
    PROPOSE_FIELD_NUMBER: _ClassVar[int]
    AGREED_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWN_FIELD_NUMBER: _ClassVar[int]
    WISH_OVER_FIELD_NUMBER: _ClassVar[int]
    SALVAGE_FIELD_NUMBER: _ClassVar[int]
    receiver: Sender
    welcome: Welcome
    rejected: Rejected
    decided: Decided
    describe: Describe
    committed: Committed
    aborted: Aborted
    verify: Verify
    restore_decided: RestoreDecided
    fenced_off: FencedOff
    alive: Alive
    propose: Propose
    agreed: Agreed
    withdrawn: Withdrawn
    wish_over: WishOver
    salvage: Salvage
    def __init__(self, receiver: _Optional[_Union[Sender, _Mapping]] = ..., welcome: _Optional[_Union[Welcome, _Mapping]] = ..., rejected: _Optional[_Union[Rejected, _Mapping]] = ..., decided: _Optional[_Union[Decided, _Mapping]] = ..., describe: _Optional[_Union[Describe, _Mapping]] = ..., committed: _Optional[_Union[Committed, _Mapping]] = ..., aborted: _Optional[_Union[Aborted, _Mapping]] = ..., verify: _Optional[_Union[Verify, _Mapping]] = ..., restore_decided: _Optional[_Union[RestoreDecided, _Mapping]] = ..., fenced_off: _Optional[_Union[FencedOff, _Mapping]] = ..., alive: _Optional[_Union[Alive, _Mapping]] = ..., propose: _Optional[_Union[Propose, _Mapping]] = ..., agreed: _Optional[_Union[Agreed, _Mapping]] = ..., withdrawn: _Optional[_Union[Withdrawn, _Mapping]] = ..., wish_over: _Optional[_Union[WishOver, _Mapping]] = ..., salvage: _Optional[_Union[Salvage, _Mapping]] = ...) -> None: ...

class Join(_message.Message):
    __slots__ = ("world_size", "host", "pid", "probe", "address")
    WORLD_SIZE_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    PROBE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    world_size: int
    host: str
    pid: int
    probe: str
    address: str
    def __init__(self, world_size: _Optional[int] = ..., host: _Optional[str] = ..., pid: _Optional[int] = ..., probe: _Optional[str] = ..., address: _Optional[str] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("step", "activity", "kept", "parting")
    STEP_FIELD_NUMBER: _ClassVar[int]
    ACTIVITY_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    PARTING_FIELD_NUMBER: _ClassVar[int]
    step: int
    activity: Activity
    kept: _containers.RepeatedScalarFieldContainer[int]
    parting: bool
    def __init__(self, step: _Optional[int] = ..., activity: _Optional[_Union[Activity, _Mapping]] = ..., kept: _Optional[_Iterable[int]] = ..., parting: bool = ...) -> None: ...

class Activity(_message.Message):
    __slots__ = ("round", "written_bytes", "share_bytes", "stalls")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    WRITTEN_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHARE_BYTES_FIELD_NUMBER: _ClassVar[int]
    STALLS_FIELD_NUMBER: _ClassVar[int]
    round: int
    written_bytes: int
    share_bytes: int
    stalls: _containers.RepeatedCompositeFieldContainer[Stall]
    def __init__(self, round: _Optional[int] = ..., written_bytes: _Optional[int] = ..., share_bytes: _Optional[int] = ..., stalls: _Optional[_Iterable[_Union[Stall, _Mapping]]] = ...) -> None: ...

class Stall(_message.Message):
    __slots__ = ("ordinal", "step", "seconds")
    ORDINAL_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    ordinal: int
    step: int
    seconds: float
    def __init__(self, ordinal: _Optional[int] = ..., step: _Optional[int] = ..., seconds: _Optional[float] = ...) -> None: ...

class Announce(_message.Message):
    __slots__ = ("ordinal", "step", "name", "digest", "own_bytes", "metrics", "captured", "salvage")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    ORDINAL_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    OWN_BYTES_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_FIELD_NUMBER: _ClassVar[int]
    SALVAGE_FIELD_NUMBER: _ClassVar[int]
    ordinal: int
    step: int
    name: str
    digest: str
    own_bytes: int
    metrics: _containers.ScalarMap[str, float]
    captured: bool
    salvage: bool
    def __init__(self, ordinal: _Optional[int] = ..., step: _Optional[int] = ..., name: _Optional[str] = ..., digest: _Optional[str] = ..., own_bytes: _Optional[int] = ..., metrics: _Optional[_Mapping[str, float]] = ..., captured: bool = ..., salvage: bool = ...) -> None: ...

class Described(_message.Message):
    __slots__ = ("round", "specs")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    SPECS_FIELD_NUMBER: _ClassVar[int]
    round: int
    specs: _containers.RepeatedCompositeFieldContainer[TensorSpec]
    def __init__(self, round: _Optional[int] = ..., specs: _Optional[_Iterable[_Union[TensorSpec, _Mapping]]] = ...) -> None: ...

class Written(_message.Message):
    __slots__ = ("round", "shard", "share", "check")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    CHECK_FIELD_NUMBER: _ClassVar[int]
    round: int
    shard: Shard
    share: int
    check: Check
    def __init__(self, round: _Optional[int] = ..., shard: _Optional[_Union[Shard, _Mapping]] = ..., share: _Optional[int] = ..., check: _Optional[_Union[Check, _Mapping]] = ...) -> None: ...

class Check(_message.Message):
    __slots__ = ("share", "sums")
    SHARE_FIELD_NUMBER: _ClassVar[int]
    SUMS_FIELD_NUMBER: _ClassVar[int]
    share: int
    sums: _containers.RepeatedCompositeFieldContainer[Sum]
    def __init__(self, share: _Optional[int] = ..., sums: _Optional[_Iterable[_Union[Sum, _Mapping]]] = ...) -> None: ...

class Sum(_message.Message):
    __slots__ = ("name", "start", "crc32c")
    NAME_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    CRC32C_FIELD_NUMBER: _ClassVar[int]
    name: str
    start: int
    crc32c: int
    def __init__(self, name: _Optional[str] = ..., start: _Optional[int] = ..., crc32c: _Optional[int] = ...) -> None: ...

class NotWritten(_message.Message):
    __slots__ = ("round", "share", "cause")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    round: int
    share: int
    cause: Cause
    def __init__(self, round: _Optional[int] = ..., share: _Optional[int] = ..., cause: _Optional[_Union[Cause, _Mapping]] = ...) -> None: ...

class Failed(_message.Message):
    __slots__ = ("round", "ordinal", "cause")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ORDINAL_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    round: int
    ordinal: int
    cause: Cause
    def __init__(self, round: _Optional[int] = ..., ordinal: _Optional[int] = ..., cause: _Optional[_Union[Cause, _Mapping]] = ...) -> None: ...

class RestoreRequest(_message.Message):
    __slots__ = ("ordinal", "selector")
    ORDINAL_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    ordinal: int
    selector: str
    def __init__(self, ordinal: _Optional[int] = ..., selector: _Optional[str] = ...) -> None: ...

class Verified(_message.Message):
    __slots__ = ("round", "name", "fault")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    round: int
    name: str
    fault: str
    def __init__(self, round: _Optional[int] = ..., name: _Optional[str] = ..., fault: _Optional[str] = ...) -> None: ...

class Leave(_message.Message):
    __slots__ = ("cause",)
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    cause: Cause
    def __init__(self, cause: _Optional[_Union[Cause, _Mapping]] = ...) -> None: ...

class SaveWanted(_message.Message):
    __slots__ = ("number", "reason", "within_s", "final")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    WITHIN_S_FIELD_NUMBER: _ClassVar[int]
    FINAL_FIELD_NUMBER: _ClassVar[int]
    number: int
    reason: str
    within_s: float
    final: bool
    def __init__(self, number: _Optional[int] = ..., reason: _Optional[str] = ..., within_s: _Optional[float] = ..., final: bool = ...) -> None: ...

class Ceiling(_message.Message):
    __slots__ = ("proposal", "step")
    PROPOSAL_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    proposal: int
    step: int
    def __init__(self, proposal: _Optional[int] = ..., step: _Optional[int] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("generation", "checkpoints")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINTS_FIELD_NUMBER: _ClassVar[int]
    generation: int
    checkpoints: _containers.RepeatedCompositeFieldContainer[Checkpoint]
    def __init__(self, generation: _Optional[int] = ..., checkpoints: _Optional[_Iterable[_Union[Checkpoint, _Mapping]]] = ...) -> None: ...

class Rejected(_message.Message):
    __slots__ = ("cause",)
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    cause: Cause
    def __init__(self, cause: _Optional[_Union[Cause, _Mapping]] = ...) -> None: ...

class Decided(_message.Message):
    __slots__ = ("round", "ordinal", "step", "own_bytes", "splits", "weights")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ORDINAL_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    OWN_BYTES_FIELD_NUMBER: _ClassVar[int]
    SPLITS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    round: int
    ordinal: int
    step: int
    own_bytes: _containers.RepeatedScalarFieldContainer[int]
    splits: _containers.RepeatedCompositeFieldContainer[Split]
    weights: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, round: _Optional[int] = ..., ordinal: _Optional[int] = ..., step: _Optional[int] = ..., own_bytes: _Optional[_Iterable[int]] = ..., splits: _Optional[_Iterable[_Union[Split, _Mapping]]] = ..., weights: _Optional[_Iterable[int]] = ...) -> None: ...

class Describe(_message.Message):
    __slots__ = ("round", "ordinal")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ORDINAL_FIELD_NUMBER: _ClassVar[int]
    round: int
    ordinal: int
    def __init__(self, round: _Optional[int] = ..., ordinal: _Optional[int] = ...) -> None: ...

class Committed(_message.Message):
    __slots__ = ("round", "ordinal", "checkpoint", "retired")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ORDINAL_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    RETIRED_FIELD_NUMBER: _ClassVar[int]
    round: int
    ordinal: int
    checkpoint: Checkpoint
    retired: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, round: _Optional[int] = ..., ordinal: _Optional[int] = ..., checkpoint: _Optional[_Union[Checkpoint, _Mapping]] = ..., retired: _Optional[_Iterable[str]] = ...) -> None: ...

class Aborted(_message.Message):
    __slots__ = ("round", "ordinal", "cause")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ORDINAL_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    round: int
    ordinal: int
    cause: Cause
    def __init__(self, round: _Optional[int] = ..., ordinal: _Optional[int] = ..., cause: _Optional[_Union[Cause, _Mapping]] = ...) -> None: ...

class Verify(_message.Message):
    __slots__ = ("round", "ordinal", "name", "part", "parts", "manifest_sha256")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ORDINAL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_SHA256_FIELD_NUMBER: _ClassVar[int]
    round: int
    ordinal: int
    name: str
    part: int
    parts: int
    manifest_sha256: str
    def __init__(self, round: _Optional[int] = ..., ordinal: _Optional[int] = ..., name: _Optional[str] = ..., part: _Optional[int] = ..., parts: _Optional[int] = ..., manifest_sha256: _Optional[str] = ...) -> None: ...

class RestoreDecided(_message.Message):
    __slots__ = ("round", "ordinal", "name", "quarantined")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ORDINAL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_FIELD_NUMBER: _ClassVar[int]
    round: int
    ordinal: int
    name: str
    quarantined: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, round: _Optional[int] = ..., ordinal: _Optional[int] = ..., name: _Optional[str] = ..., quarantined: _Optional[_Iterable[str]] = ...) -> None: ...

class Alive(_message.Message):
    __slots__ = ("may_go",)
    MAY_GO_FIELD_NUMBER: _ClassVar[int]
    may_go: bool
    def __init__(self, may_go: bool = ...) -> None: ...

class Salvage(_message.Message):
    __slots__ = ("step",)
    STEP_FIELD_NUMBER: _ClassVar[int]
    step: int
    def __init__(self, step: _Optional[int] = ...) -> None: ...

class Propose(_message.Message):
    __slots__ = ("proposal",)
    PROPOSAL_FIELD_NUMBER: _ClassVar[int]
    proposal: int
    def __init__(self, proposal: _Optional[int] = ...) -> None: ...

class Agreed(_message.Message):
    __slots__ = ("proposal", "step", "reason", "final")
    PROPOSAL_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FINAL_FIELD_NUMBER: _ClassVar[int]
    proposal: int
    step: int
    reason: str
    final: bool
    def __init__(self, proposal: _Optional[int] = ..., step: _Optional[int] = ..., reason: _Optional[str] = ..., final: bool = ...) -> None: ...

class Withdrawn(_message.Message):
    __slots__ = ("proposal", "cause")
    PROPOSAL_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    proposal: int
    cause: Cause
    def __init__(self, proposal: _Optional[int] = ..., cause: _Optional[_Union[Cause, _Mapping]] = ...) -> None: ...

class WishOver(_message.Message):
    __slots__ = ("number", "name", "step", "cause")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    number: int
    name: str
    step: int
    cause: Cause
    def __init__(self, number: _Optional[int] = ..., name: _Optional[str] = ..., step: _Optional[int] = ..., cause: _Optional[_Union[Cause, _Mapping]] = ...) -> None: ...

class FencedOff(_message.Message):
    __slots__ = ("generation", "cause")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    generation: int
    cause: Cause
    def __init__(self, generation: _Optional[int] = ..., cause: _Optional[_Union[Cause, _Mapping]] = ...) -> None: ...

class Cause(_message.Message):
    __slots__ = ("kind", "message", "worker")
    KIND_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    kind: str
    message: str
    worker: int
    def __init__(self, kind: _Optional[str] = ..., message: _Optional[str] = ..., worker: _Optional[int] = ...) -> None: ...

class Extent(_message.Message):
    __slots__ = ("start", "length")
    START_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    start: int
    length: int
    def __init__(self, start: _Optional[int] = ..., length: _Optional[int] = ...) -> None: ...

class Slice(_message.Message):
    __slots__ = ("extents",)
    EXTENTS_FIELD_NUMBER: _ClassVar[int]
    extents: _containers.RepeatedCompositeFieldContainer[Extent]
    def __init__(self, extents: _Optional[_Iterable[_Union[Extent, _Mapping]]] = ...) -> None: ...

class TensorSpec(_message.Message):
    __slots__ = ("name", "dtype", "shape", "size_bytes", "part", "divisible")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    DIVISIBLE_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: int
    shape: _containers.RepeatedScalarFieldContainer[int]
    size_bytes: int
    part: Slice
    divisible: bool
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[int] = ..., shape: _Optional[_Iterable[int]] = ..., size_bytes: _Optional[int] = ..., part: _Optional[_Union[Slice, _Mapping]] = ..., divisible: bool = ...) -> None: ...

class Entry(_message.Message):
    __slots__ = ("name", "dtype", "shape", "offset", "size_bytes", "crc32c", "part")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    CRC32C_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: int
    shape: _containers.RepeatedScalarFieldContainer[int]
    offset: int
    size_bytes: int
    crc32c: int
    part: Slice
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[int] = ..., shape: _Optional[_Iterable[int]] = ..., offset: _Optional[int] = ..., size_bytes: _Optional[int] = ..., crc32c: _Optional[int] = ..., part: _Optional[_Union[Slice, _Mapping]] = ...) -> None: ...

class Split(_message.Message):
    __slots__ = ("share", "writers")
    SHARE_FIELD_NUMBER: _ClassVar[int]
    WRITERS_FIELD_NUMBER: _ClassVar[int]
    share: int
    writers: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, share: _Optional[int] = ..., writers: _Optional[_Iterable[int]] = ...) -> None: ...

class Shard(_message.Message):
    __slots__ = ("worker", "handle", "size_bytes", "entries", "state", "frozen")
    WORKER_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    FROZEN_FIELD_NUMBER: _ClassVar[int]
    worker: int
    handle: str
    size_bytes: int
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    state: StagedState
    frozen: DataFile
    def __init__(self, worker: _Optional[int] = ..., handle: _Optional[str] = ..., size_bytes: _Optional[int] = ..., entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., state: _Optional[_Union[StagedState, _Mapping]] = ..., frozen: _Optional[_Union[DataFile, _Mapping]] = ...) -> None: ...

class DataFile(_message.Message):
    __slots__ = ("handle", "size_bytes", "entries", "linked")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    LINKED_FIELD_NUMBER: _ClassVar[int]
    handle: str
    size_bytes: int
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    linked: bool
    def __init__(self, handle: _Optional[str] = ..., size_bytes: _Optional[int] = ..., entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., linked: bool = ...) -> None: ...

class StagedState(_message.Message):
    __slots__ = ("world_size", "data_handle", "data_bytes", "index_handle", "index_bytes", "sha256")
    WORLD_SIZE_FIELD_NUMBER: _ClassVar[int]
    DATA_HANDLE_FIELD_NUMBER: _ClassVar[int]
    DATA_BYTES_FIELD_NUMBER: _ClassVar[int]
    INDEX_HANDLE_FIELD_NUMBER: _ClassVar[int]
    INDEX_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    world_size: int
    data_handle: str
    data_bytes: int
    index_handle: str
    index_bytes: int
    sha256: str
    def __init__(self, world_size: _Optional[int] = ..., data_handle: _Optional[str] = ..., data_bytes: _Optional[int] = ..., index_handle: _Optional[str] = ..., index_bytes: _Optional[int] = ..., sha256: _Optional[str] = ...) -> None: ...

class FileRecord(_message.Message):
    __slots__ = ("name", "size_bytes", "handle")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    name: str
    size_bytes: int
    handle: str
    def __init__(self, name: _Optional[str] = ..., size_bytes: _Optional[int] = ..., handle: _Optional[str] = ...) -> None: ...

class Checkpoint(_message.Message):
    __slots__ = ("name", "step", "timestamp", "generation", "files", "manifest_sha256", "metrics", "preserved")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_SHA256_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    PRESERVED_FIELD_NUMBER: _ClassVar[int]
    name: str
    step: int
    timestamp: float
    generation: int
    files: _containers.RepeatedCompositeFieldContainer[FileRecord]
    manifest_sha256: str
    metrics: _containers.ScalarMap[str, float]
    preserved: bool
    def __init__(self, name: _Optional[str] = ..., step: _Optional[int] = ..., timestamp: _Optional[float] = ..., generation: _Optional[int] = ..., files: _Optional[_Iterable[_Union[FileRecord, _Mapping]]] = ..., manifest_sha256: _Optional[str] = ..., metrics: _Optional[_Mapping[str, float]] = ..., preserved: bool = ...) -> None: ...
