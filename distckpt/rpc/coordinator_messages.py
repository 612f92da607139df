"""What the coordinator says, from and to protobuf: one pair of functions for each message, and the table of them.

`*_from` functions refuse what breaks a rule of `coordination.proto` with `MalformedMessage`.
"""

from __future__ import annotations

from collections.abc import Sequence

from distckpt.protocol.messages import (
    Aborted,
    Agreed,
    Alive,
    Committed,
    Decided,
    Describe,
    FencedOff,
    Propose,
    Rejected,
    RestoreDecided,
    Salvage,
    Verify,
    Welcome,
    WishOver,
    Withdrawn,
)
from distckpt.rpc import checks, values
from distckpt.rpc.checks import MalformedMessage
from distckpt.rpc.kinds import Kind
from distckpt.rpc.v1 import coordination_pb2 as pb

WEIGHT_MAX = 1_024


def _welcome_to(welcome: Welcome) -> pb.Welcome:
    return pb.Welcome(
        generation=welcome.generation,
        checkpoints=[values.checkpoint_to(checkpoint) for checkpoint in welcome.checkpoints],
    )


def _welcome_from(message: pb.Welcome) -> Welcome:
    return Welcome(
        generation=checks.count(message.generation, "welcome.generation"),
        checkpoints=tuple(values.checkpoint_from(checkpoint) for checkpoint in message.checkpoints),
    )


def _rejected_to(rejected: Rejected) -> pb.Rejected:
    return pb.Rejected(cause=values.cause_to(rejected.cause))


def _rejected_from(message: pb.Rejected) -> Rejected:
    return Rejected(cause=values.cause_from(message.cause))


def _decided_to(decided: Decided) -> pb.Decided:
    return pb.Decided(
        round=decided.round,
        ordinal=decided.ordinal,
        step=decided.step,
        own_bytes=decided.own_bytes,
        splits=[values.split_to(split) for split in decided.splits],
        weights=decided.weights,
    )


def _decided_from(message: pb.Decided) -> Decided:
    workers = checks.count(len(message.own_bytes), "the length of decided.own_bytes", least=1)
    return Decided(
        round=checks.count(message.round, "decided.round"),
        ordinal=checks.count(message.ordinal, "decided.ordinal"),
        step=checks.count(message.step, "decided.step"),
        own_bytes=checks.counts(message.own_bytes, "decided.own_bytes"),
        splits=tuple(values.split_from(split) for split in message.splits),
        weights=_weights_from(message.weights, workers),
    )


def _weights_from(weights: Sequence[int], workers: int) -> tuple[int, ...]:
    if weights and (len(weights) != workers or not 1 <= min(weights) <= max(weights) <= WEIGHT_MAX):
        raise MalformedMessage(
            f"decided.weights: {len(weights)} for {workers} workers, not each from 1 to {WEIGHT_MAX}"
        )
    return tuple(weights)


def _describe_to(describe: Describe) -> pb.Describe:
    return pb.Describe(round=describe.round, ordinal=describe.ordinal)


def _describe_from(message: pb.Describe) -> Describe:
    return Describe(
        round=checks.count(message.round, "describe.round"),
        ordinal=checks.count(message.ordinal, "describe.ordinal"),
    )


def _committed_to(committed: Committed) -> pb.Committed:
    return pb.Committed(
        round=committed.round,
        ordinal=committed.ordinal,
        checkpoint=values.checkpoint_to(committed.checkpoint),
        retired=committed.retired,
    )


def _committed_from(message: pb.Committed) -> Committed:
    return Committed(
        round=checks.count(message.round, "committed.round"),
        ordinal=checks.count(message.ordinal, "committed.ordinal"),
        checkpoint=values.checkpoint_from(message.checkpoint),
        retired=checks.names(message.retired, "a name in committed.retired"),
    )


def _aborted_to(aborted: Aborted) -> pb.Aborted:
    return pb.Aborted(round=aborted.round, ordinal=aborted.ordinal, cause=values.cause_to(aborted.cause))


def _aborted_from(message: pb.Aborted) -> Aborted:
    return Aborted(
        round=checks.count(message.round, "aborted.round"),
        ordinal=checks.count(message.ordinal, "aborted.ordinal"),
        cause=values.cause_from(message.cause),
    )


def _verify_to(verify: Verify) -> pb.Verify:
    return pb.Verify(
        round=verify.round,
        ordinal=verify.ordinal,
        name=verify.name,
        part=verify.part,
        parts=verify.parts,
        manifest_sha256=verify.manifest_sha256,
    )


def _verify_from(message: pb.Verify) -> Verify:
    parts = checks.count(message.parts, "verify.parts", least=1)
    part = checks.count(message.part, "verify.part")
    if part >= parts:
        raise MalformedMessage(f"verify.part is {part} of {parts} parts: parts count from 0")
    return Verify(
        round=checks.count(message.round, "verify.round"),
        ordinal=checks.count(message.ordinal, "verify.ordinal"),
        name=checks.name(message.name, "verify.name"),
        part=part,
        parts=parts,
        manifest_sha256=checks.optional_name(message.manifest_sha256, "verify.manifest_sha256"),
    )


def _restore_decided_to(decided: RestoreDecided) -> pb.RestoreDecided:
    return pb.RestoreDecided(
        round=decided.round, ordinal=decided.ordinal, name=decided.name, quarantined=decided.quarantined
    )


def _restore_decided_from(message: pb.RestoreDecided) -> RestoreDecided:
    return RestoreDecided(
        round=checks.count(message.round, "restore_decided.round"),
        ordinal=checks.count(message.ordinal, "restore_decided.ordinal"),
        name=checks.name(message.name, "restore_decided.name") if message.HasField("name") else None,
        quarantined=checks.names(message.quarantined, "a name in restore_decided.quarantined"),
    )


def _alive_to(alive: Alive) -> pb.Alive:
    return pb.Alive(may_go=alive.may_go)


def _alive_from(message: pb.Alive) -> Alive:
    return Alive(may_go=message.may_go)


def _salvage_to(salvage: Salvage) -> pb.Salvage:
    return pb.Salvage(step=salvage.step)


def _salvage_from(message: pb.Salvage) -> Salvage:
    return Salvage(checks.count(message.step, "salvage.step"))


def _fenced_off_to(fenced: FencedOff) -> pb.FencedOff:
    return pb.FencedOff(generation=fenced.generation, cause=values.cause_to(fenced.cause))


def _fenced_off_from(message: pb.FencedOff) -> FencedOff:
    return FencedOff(
        generation=checks.count(message.generation, "fenced_off.generation"),
        cause=values.cause_from(message.cause),
    )


def _propose_to(propose: Propose) -> pb.Propose:
    return pb.Propose(proposal=propose.proposal)


def _propose_from(message: pb.Propose) -> Propose:
    return Propose(proposal=checks.count(message.proposal, "propose.proposal"))


def _agreed_to(agreed: Agreed) -> pb.Agreed:
    return pb.Agreed(proposal=agreed.proposal, step=agreed.step, reason=checks.cut(agreed.reason), final=agreed.final)


def _agreed_from(message: pb.Agreed) -> Agreed:
    return Agreed(
        proposal=checks.count(message.proposal, "agreed.proposal"),
        step=checks.count(message.step, "agreed.step"),
        reason=checks.text(message.reason, "agreed.reason"),
        final=message.final,
    )


def _withdrawn_to(withdrawn: Withdrawn) -> pb.Withdrawn:
    return pb.Withdrawn(proposal=withdrawn.proposal, cause=values.cause_to(withdrawn.cause))


def _withdrawn_from(message: pb.Withdrawn) -> Withdrawn:
    return Withdrawn(
        proposal=checks.count(message.proposal, "withdrawn.proposal"), cause=values.cause_from(message.cause)
    )


def _wish_over_to(over: WishOver) -> pb.WishOver:
    return pb.WishOver(
        number=over.number,
        name=over.name,
        step=over.step,
        cause=None if over.cause is None else values.cause_to(over.cause),
    )


def _wish_over_from(message: pb.WishOver) -> WishOver:
    return WishOver(
        number=checks.count(message.number, "wish_over.number"),
        name=checks.optional_name(message.name, "wish_over.name"),
        step=checks.count(message.step, "wish_over.step", least=-1),
        cause=values.cause_from(message.cause) if message.HasField("cause") else None,
    )


KINDS = (
    Kind("welcome", Welcome, _welcome_to, _welcome_from),
    Kind("rejected", Rejected, _rejected_to, _rejected_from),
    Kind("decided", Decided, _decided_to, _decided_from),
    Kind("describe", Describe, _describe_to, _describe_from),
    Kind("committed", Committed, _committed_to, _committed_from),
    Kind("aborted", Aborted, _aborted_to, _aborted_from),
    Kind("verify", Verify, _verify_to, _verify_from),
    Kind("restore_decided", RestoreDecided, _restore_decided_to, _restore_decided_from),
    Kind("alive", Alive, _alive_to, _alive_from),
    Kind("salvage", Salvage, _salvage_to, _salvage_from),
    Kind("fenced_off", FencedOff, _fenced_off_to, _fenced_off_from),
    Kind("propose", Propose, _propose_to, _propose_from),
    Kind("agreed", Agreed, _agreed_to, _agreed_from),
    Kind("withdrawn", Withdrawn, _withdrawn_to, _withdrawn_from),
    Kind("wish_over", WishOver, _wish_over_to, _wish_over_from),
)
