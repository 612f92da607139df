"""Envelopes from `protocol.messages` to protobuf and back. Total: every input gives a value or `MalformedMessage`.

What arrives is checked against the rules that `coordination.proto` states (see `checks`), so that who acts on a message
never meets a negative size or a missing field. What is sent is not checked twice: the receiver does that. Texts for
people that are too long to send are cut, and nothing else is changed.
"""

from __future__ import annotations

from typing import Any

from distckpt.protocol.messages import AgentEnvelope, CoordinatorEnvelope
from distckpt.rpc import agent_messages, coordinator_messages, values
from distckpt.rpc.checks import MESSAGE_BYTES_MAX, MalformedMessage
from distckpt.rpc.kinds import Kind
from distckpt.rpc.v1 import coordination_pb2 as pb

_BY_CLASS: dict[type, Kind] = {kind.cls: kind for kind in (*agent_messages.KINDS, *coordinator_messages.KINDS)}
_AGENT_BY_FIELD = {kind.field: kind for kind in agent_messages.KINDS}
_COORDINATOR_BY_FIELD = {kind.field: kind for kind in coordinator_messages.KINDS}


def agent_to_proto(envelope: AgentEnvelope) -> pb.AgentEnvelope:
    """Raises MalformedMessage where a value does not fit the wire, or the whole is above `MESSAGE_BYTES_MAX`."""
    message: pb.AgentEnvelope = _to_proto(pb.AgentEnvelope, "sender", envelope.sender, envelope.message)
    return message


def agent_from_proto(message: pb.AgentEnvelope) -> AgentEnvelope:
    """Raises MalformedMessage where a rule of `coordination.proto` is broken."""
    kind = _payload(message, _AGENT_BY_FIELD)
    return AgentEnvelope(values.sender_from(message.sender), kind.back(getattr(message, kind.field)))


def coordinator_to_proto(envelope: CoordinatorEnvelope) -> pb.CoordinatorEnvelope:
    """Raises MalformedMessage where a value does not fit the wire, or the whole is above `MESSAGE_BYTES_MAX`."""
    message: pb.CoordinatorEnvelope = _to_proto(pb.CoordinatorEnvelope, "receiver", envelope.receiver, envelope.message)
    return message


def coordinator_from_proto(message: pb.CoordinatorEnvelope) -> CoordinatorEnvelope:
    """Raises MalformedMessage where a rule of `coordination.proto` is broken."""
    kind = _payload(message, _COORDINATOR_BY_FIELD)
    return CoordinatorEnvelope(values.sender_from(message.receiver), kind.back(getattr(message, kind.field)))


def _to_proto(cls: type, role: str, sender: Any, payload: Any) -> Any:
    kind = _BY_CLASS.get(type(payload))
    if kind is None:
        raise MalformedMessage(f"{type(payload).__name__} is no message of the protocol")
    try:
        message = cls(**{role: values.sender_to(sender), kind.field: kind.to(payload)})
    except (ValueError, TypeError, AttributeError) as error:
        raise MalformedMessage(f"{kind.cls.__name__} does not fit the wire: {error}") from error
    size_bytes = message.ByteSize()
    if size_bytes > MESSAGE_BYTES_MAX:
        raise MalformedMessage(f"{kind.cls.__name__} takes {size_bytes} bytes: at most {MESSAGE_BYTES_MAX} can be sent")
    return message


def _payload(message: pb.AgentEnvelope | pb.CoordinatorEnvelope, kinds: dict[str, Kind]) -> Kind:
    field = message.WhichOneof("message")
    if field is None:
        raise MalformedMessage("the envelope holds no message that this version knows")
    return kinds[field]
