"""The values inside messages, from and to protobuf: checkpoints, shards, tensors, causes, senders.

`*_from` functions refuse what breaks a rule of `coordination.proto` with `MalformedMessage`.
"""

from __future__ import annotations

from distckpt.model import (
    Cause,
    Check,
    Checkpoint,
    DataFile,
    Entry,
    Extent,
    FileRecord,
    Shard,
    Slice,
    Split,
    StagedState,
    Sum,
    TensorSpec,
)
from distckpt.protocol.messages import Sender
from distckpt.rpc import checks
from distckpt.rpc.checks import MalformedMessage
from distckpt.rpc.v1 import coordination_pb2 as pb


def sender_to(sender: Sender) -> pb.Sender:
    return pb.Sender(job=sender.job, generation=sender.generation, worker=sender.worker, incarnation=sender.incarnation)


def sender_from(message: pb.Sender) -> Sender:
    return Sender(
        job=checks.name(message.job, "sender.job"),
        generation=checks.count(message.generation, "sender.generation"),
        worker=checks.worker(message.worker, "sender.worker"),
        incarnation=checks.name(message.incarnation, "sender.incarnation"),
    )


def cause_to(cause: Cause) -> pb.Cause:
    return pb.Cause(kind=cause.kind, message=checks.cut(cause.message), worker=cause.worker)


def cause_from(message: pb.Cause) -> Cause:
    return Cause(
        kind=checks.name(message.kind, "cause.kind"),
        message=checks.text(message.message, "cause.message"),
        worker=checks.worker(message.worker, "cause.worker") if message.HasField("worker") else None,
    )


def split_to(split: Split) -> pb.Split:
    return pb.Split(share=split.share, writers=split.writers)


def split_from(message: pb.Split) -> Split:
    checks.count(len(message.writers), "the length of split.writers", least=1)
    return Split(
        share=checks.count(message.share, "split.share"),
        writers=tuple(checks.worker(writer, "a worker in split.writers") for writer in message.writers),
    )


def _slice_to(part: Slice | None) -> pb.Slice | None:
    if part is None:
        return None
    return pb.Slice(extents=[pb.Extent(start=extent.start, length=extent.length) for extent in part])


def _slice_from(message: pb.Slice, rank: int, tensor: str) -> Slice:
    if len(message.extents) != rank:
        raise MalformedMessage(f"part of {tensor!r} has {len(message.extents)} extents, its shape {rank} dimensions")
    return tuple(
        Extent(checks.count(extent.start, "extent.start"), checks.count(extent.length, "extent.length"))
        for extent in message.extents
    )


def spec_to(spec: TensorSpec) -> pb.TensorSpec:
    return pb.TensorSpec(
        name=spec.name,
        dtype=spec.dtype,
        shape=spec.shape,
        size_bytes=spec.size_bytes,
        part=_slice_to(spec.part),
        divisible=spec.divisible,
    )


def spec_from(message: pb.TensorSpec) -> TensorSpec:
    name = checks.name(message.name, "spec.name")
    shape = checks.shape(message.shape, "spec.shape")
    return TensorSpec(
        name=name,
        dtype=checks.count(message.dtype, "spec.dtype"),
        shape=shape,
        size_bytes=checks.count(message.size_bytes, "spec.size_bytes"),
        part=_slice_from(message.part, len(shape), name) if message.HasField("part") else None,
        divisible=message.divisible,
    )


def _entry_to(entry: Entry) -> pb.Entry:
    return pb.Entry(
        name=entry.name,
        dtype=entry.dtype,
        shape=entry.shape,
        offset=entry.offset,
        size_bytes=entry.size_bytes,
        crc32c=entry.crc32c,
        part=_slice_to(entry.part),
    )


def _entry_from(message: pb.Entry) -> Entry:
    name = checks.name(message.name, "entry.name")
    shape = checks.shape(message.shape, "entry.shape")
    return Entry(
        name,
        checks.count(message.dtype, "entry.dtype"),
        shape,
        checks.count(message.offset, "entry.offset"),
        checks.count(message.size_bytes, "entry.size_bytes"),
        message.crc32c,
        _slice_from(message.part, len(shape), name) if message.HasField("part") else None,
    )


def shard_to(shard: Shard) -> pb.Shard:
    return pb.Shard(
        worker=shard.worker,
        handle=shard.handle,
        size_bytes=shard.size_bytes,
        entries=[_entry_to(entry) for entry in shard.entries],
        state=None if shard.state is None else _state_to(shard.state),
        frozen=None if shard.frozen is None else _frozen_to(shard.frozen),
    )


def shard_from(message: pb.Shard) -> Shard:
    handle = checks.optional_name(message.handle, "shard.handle")
    if not handle and (message.entries or message.size_bytes):
        raise MalformedMessage("shard.handle is empty, which says that there is no file, and yet something is in it")
    return Shard(
        worker=checks.worker(message.worker, "shard.worker"),
        handle=handle,
        size_bytes=checks.count(message.size_bytes, "shard.size_bytes"),
        entries=tuple(_entry_from(entry) for entry in message.entries),
        state=_state_from(message.state) if message.HasField("state") else None,
        frozen=_frozen_from(message.frozen) if message.HasField("frozen") else None,
    )


def _frozen_to(frozen: DataFile) -> pb.DataFile:
    return pb.DataFile(
        handle=frozen.handle,
        size_bytes=frozen.size_bytes,
        entries=[_entry_to(entry) for entry in frozen.entries],
        linked=frozen.linked,
    )


def _frozen_from(message: pb.DataFile) -> DataFile:
    return DataFile(
        handle=checks.name(message.handle, "frozen.handle"),
        size_bytes=checks.count(message.size_bytes, "frozen.size_bytes"),
        entries=tuple(_entry_from(entry) for entry in message.entries),
        linked=message.linked,
    )


def check_to(check: Check) -> pb.Check:
    sums = [pb.Sum(name=each.tensor, start=each.start, crc32c=each.crc32c) for each in check.sums]
    return pb.Check(share=check.share, sums=sums)


def check_from(message: pb.Check) -> Check:
    sums = (
        Sum(checks.name(each.name, "sum.name"), checks.count(each.start, "sum.start"), each.crc32c)
        for each in message.sums
    )
    return Check(checks.count(message.share, "check.share"), tuple(sums))


def _state_to(state: StagedState) -> pb.StagedState:
    return pb.StagedState(
        world_size=state.world_size,
        data_handle=state.data_handle,
        data_bytes=state.data_bytes,
        index_handle=state.index_handle,
        index_bytes=state.index_bytes,
        sha256=state.sha256,
    )


def _state_from(message: pb.StagedState) -> StagedState:
    return StagedState(
        world_size=checks.count(message.world_size, "state.world_size", least=1),
        data_handle=checks.name(message.data_handle, "state.data_handle"),
        data_bytes=checks.count(message.data_bytes, "state.data_bytes"),
        index_handle=checks.name(message.index_handle, "state.index_handle"),
        index_bytes=checks.count(message.index_bytes, "state.index_bytes"),
        sha256=checks.name(message.sha256, "state.sha256"),
    )


def _file_to(file: FileRecord) -> pb.FileRecord:
    return pb.FileRecord(name=file.name, size_bytes=file.size_bytes, handle=file.handle)


def _file_from(message: pb.FileRecord) -> FileRecord:
    return FileRecord(
        name=checks.name(message.name, "file.name"),
        size_bytes=checks.count(message.size_bytes, "file.size_bytes"),
        handle=checks.optional_name(message.handle, "file.handle"),
    )


def checkpoint_to(checkpoint: Checkpoint) -> pb.Checkpoint:
    return pb.Checkpoint(
        name=checkpoint.name,
        step=checkpoint.step,
        timestamp=checkpoint.timestamp,
        generation=checkpoint.generation,
        files=[_file_to(file) for file in checkpoint.files],
        manifest_sha256=checkpoint.manifest_sha256,
        metrics=dict(checkpoint.metrics),
        preserved=checkpoint.preserved,
    )


def checkpoint_from(message: pb.Checkpoint) -> Checkpoint:
    return Checkpoint(
        name=checks.name(message.name, "checkpoint.name"),
        step=checks.count(message.step, "checkpoint.step", least=-1),
        timestamp=checks.finite(message.timestamp, "checkpoint.timestamp"),
        generation=checks.count(message.generation, "checkpoint.generation"),
        files=tuple(_file_from(file) for file in message.files),
        manifest_sha256=checks.optional_name(message.manifest_sha256, "checkpoint.manifest_sha256"),
        metrics=checks.metrics(message.metrics, "checkpoint.metrics"),
        preserved=message.preserved,
    )
