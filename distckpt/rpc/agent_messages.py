"""What agents say, from and to protobuf: one pair of functions for each message, and the table of them.

`*_from` functions refuse what breaks a rule of `coordination.proto` with `MalformedMessage`.
"""

from __future__ import annotations

from distckpt.protocol.messages import (
    IDLE,
    KEPT_MAX,
    STALLS_MAX,
    Activity,
    Announce,
    Ceiling,
    Described,
    Failed,
    Heartbeat,
    Join,
    Leave,
    NotWritten,
    RestoreRequest,
    SaveWanted,
    Stall,
    Verified,
    Wish,
    Written,
)
from distckpt.rpc import checks, values
from distckpt.rpc.kinds import Kind
from distckpt.rpc.v1 import coordination_pb2 as pb


def _join_to(join: Join) -> pb.Join:
    return pb.Join(
        world_size=join.world_size,
        host=checks.cut(join.host),
        pid=join.pid,
        probe=join.probe,
        address=checks.cut(join.address),
    )


def _join_from(message: pb.Join) -> Join:
    return Join(
        world_size=checks.count(message.world_size, "join.world_size", least=1),
        host=checks.text(message.host, "join.host"),
        pid=checks.count(message.pid, "join.pid"),
        probe=checks.name(message.probe, "join.probe"),
        address=checks.text(message.address, "join.address"),
    )


def _heartbeat_to(heartbeat: Heartbeat) -> pb.Heartbeat:
    activity = None if heartbeat.activity == IDLE else _activity_to(heartbeat.activity)
    return pb.Heartbeat(step=heartbeat.step, activity=activity, kept=heartbeat.kept, parting=heartbeat.parting)


def _heartbeat_from(message: pb.Heartbeat) -> Heartbeat:
    activity = _activity_from(message.activity) if message.HasField("activity") else IDLE
    return Heartbeat(
        step=checks.count(message.step, "heartbeat.step", least=-1),
        activity=activity,
        kept=tuple(checks.count(step, "heartbeat.kept") for step in message.kept[:KEPT_MAX]),
        parting=message.parting,
    )


def _activity_to(activity: Activity) -> pb.Activity:
    return pb.Activity(
        round=activity.round,
        written_bytes=activity.written_bytes,
        share_bytes=activity.share_bytes,
        stalls=[pb.Stall(ordinal=each.ordinal, step=each.step, seconds=each.seconds) for each in activity.stalls],
    )


def _activity_from(message: pb.Activity) -> Activity:
    return Activity(
        round=checks.count(message.round, "activity.round"),
        written_bytes=checks.count(message.written_bytes, "activity.written_bytes"),
        share_bytes=checks.count(message.share_bytes, "activity.share_bytes"),
        stalls=tuple(_stall_from(each) for each in message.stalls[:STALLS_MAX]),
    )


def _stall_from(message: pb.Stall) -> Stall:
    return Stall(
        ordinal=checks.count(message.ordinal, "stall.ordinal", least=1),
        step=checks.count(message.step, "stall.step"),
        seconds=checks.finite(message.seconds, "stall.seconds"),
    )


def _announce_to(announce: Announce) -> pb.Announce:
    return pb.Announce(
        ordinal=announce.ordinal,
        step=announce.step,
        name=announce.name,
        digest=announce.digest,
        own_bytes=announce.own_bytes,
        metrics=dict(announce.metrics),
        captured=announce.captured,
        salvage=announce.salvage,
    )


def _announce_from(message: pb.Announce) -> Announce:
    return Announce(
        ordinal=checks.count(message.ordinal, "announce.ordinal", least=1),
        step=checks.count(message.step, "announce.step"),
        name=checks.name(message.name, "announce.name"),
        digest=checks.name(message.digest, "announce.digest"),
        own_bytes=checks.count(message.own_bytes, "announce.own_bytes"),
        metrics=checks.metrics(message.metrics, "announce.metrics"),
        captured=message.captured,
        salvage=message.salvage,
    )


def _described_to(described: Described) -> pb.Described:
    return pb.Described(round=described.round, specs=[values.spec_to(spec) for spec in described.specs])


def _described_from(message: pb.Described) -> Described:
    return Described(
        round=checks.count(message.round, "described.round"),
        specs=tuple(values.spec_from(spec) for spec in message.specs),
    )


def _written_to(written: Written) -> pb.Written:
    return pb.Written(
        round=written.round,
        shard=values.shard_to(written.shard),
        share=written.share,
        check=None if written.check is None else values.check_to(written.check),
    )


def _written_from(message: pb.Written) -> Written:
    return Written(
        round=checks.count(message.round, "written.round"),
        share=checks.count(message.share, "written.share"),
        shard=values.shard_from(message.shard),
        check=values.check_from(message.check) if message.HasField("check") else None,
    )


def _not_written_to(failure: NotWritten) -> pb.NotWritten:
    return pb.NotWritten(round=failure.round, share=failure.share, cause=values.cause_to(failure.cause))


def _not_written_from(message: pb.NotWritten) -> NotWritten:
    return NotWritten(
        round=checks.count(message.round, "not_written.round"),
        share=checks.count(message.share, "not_written.share"),
        cause=values.cause_from(message.cause),
    )


def _failed_to(failed: Failed) -> pb.Failed:
    return pb.Failed(round=failed.round, ordinal=failed.ordinal, cause=values.cause_to(failed.cause))


def _failed_from(message: pb.Failed) -> Failed:
    return Failed(
        round=checks.count(message.round, "failed.round"),
        ordinal=checks.count(message.ordinal, "failed.ordinal"),
        cause=values.cause_from(message.cause),
    )


def _restore_request_to(request: RestoreRequest) -> pb.RestoreRequest:
    return pb.RestoreRequest(ordinal=request.ordinal, selector=request.selector)


def _restore_request_from(message: pb.RestoreRequest) -> RestoreRequest:
    return RestoreRequest(
        ordinal=checks.count(message.ordinal, "restore_request.ordinal", least=1),
        selector=checks.name(message.selector, "restore_request.selector"),
    )


def _verified_to(verified: Verified) -> pb.Verified:
    fault = None if verified.fault is None else checks.cut(verified.fault)
    return pb.Verified(round=verified.round, name=verified.name, fault=fault)


def _verified_from(message: pb.Verified) -> Verified:
    return Verified(
        round=checks.count(message.round, "verified.round"),
        name=checks.name(message.name, "verified.name"),
        fault=checks.text(message.fault, "verified.fault") if message.HasField("fault") else None,
    )


def _leave_to(leave: Leave) -> pb.Leave:
    return pb.Leave(cause=None if leave.cause is None else values.cause_to(leave.cause))


def _leave_from(message: pb.Leave) -> Leave:
    return Leave(cause=values.cause_from(message.cause) if message.HasField("cause") else None)


def _save_wanted_to(wanted: SaveWanted) -> pb.SaveWanted:
    wish = wanted.wish
    return pb.SaveWanted(number=wanted.number, reason=checks.cut(wish.reason), within_s=wish.within_s, final=wish.final)


def _save_wanted_from(message: pb.SaveWanted) -> SaveWanted:
    return SaveWanted(
        number=checks.count(message.number, "save_wanted.number", least=1),
        wish=Wish(
            reason=checks.text(message.reason, "save_wanted.reason"),
            within_s=checks.seconds(message.within_s, "save_wanted.within_s"),
            final=message.final,
        ),
    )


def _ceiling_to(ceiling: Ceiling) -> pb.Ceiling:
    return pb.Ceiling(proposal=ceiling.proposal, step=ceiling.step)


def _ceiling_from(message: pb.Ceiling) -> Ceiling:
    return Ceiling(
        proposal=checks.count(message.proposal, "ceiling.proposal"), step=checks.count(message.step, "ceiling.step")
    )


KINDS = (
    Kind("join", Join, _join_to, _join_from),
    Kind("heartbeat", Heartbeat, _heartbeat_to, _heartbeat_from),
    Kind("announce", Announce, _announce_to, _announce_from),
    Kind("described", Described, _described_to, _described_from),
    Kind("written", Written, _written_to, _written_from),
    Kind("not_written", NotWritten, _not_written_to, _not_written_from),
    Kind("failed", Failed, _failed_to, _failed_from),
    Kind("restore_request", RestoreRequest, _restore_request_to, _restore_request_from),
    Kind("verified", Verified, _verified_to, _verified_from),
    Kind("leave", Leave, _leave_to, _leave_from),
    Kind("save_wanted", SaveWanted, _save_wanted_to, _save_wanted_from),
    Kind("ceiling", Ceiling, _ceiling_to, _ceiling_from),
)
