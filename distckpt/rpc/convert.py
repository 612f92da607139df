"""Envelopes from `protocol.messages` to protobuf and back. Total: every input gives a value or `MalformedMessage`.

What arrives is checked against the rules that `coordination.proto` states (see `checks`), so that who acts on a message
never meets a negative size or a missing field. What is sent is not checked twice: the receiver does that. Texts for
people that are too long to send are cut, and nothing else is changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from distckpt.protocol.messages import AgentEnvelope, CoordinatorEnvelope, CoordinatorMessage
from distckpt.rpc import agent_messages, coordinator_messages, values
from distckpt.rpc.checks import MESSAGE_BYTES_MAX, MalformedMessage
from distckpt.rpc.kinds import Kind
from distckpt.rpc.v1 import coordination_pb2 as pb

_BY_CLASS: dict[type, Kind] = {kind.cls: kind for kind in (*agent_messages.KINDS, *coordinator_messages.KINDS)}
_AGENT_BY_FIELD = {kind.field: kind for kind in agent_messages.KINDS}
_COORDINATOR_BY_FIELD = {kind.field: kind for kind in coordinator_messages.KINDS}


def agent_to_proto(envelope: AgentEnvelope) -> pb.AgentEnvelope:
    """Raises MalformedMessage where a value does not fit the wire, or the whole is above `MESSAGE_BYTES_MAX`."""
    kind = _kind_of(envelope.message)
    with _fitting(kind):
        message = pb.AgentEnvelope(sender=values.sender_to(envelope.sender), **{kind.field: kind.to(envelope.message)})
    _check_size(kind, message.ByteSize())
    return message


def agent_from_proto(message: pb.AgentEnvelope) -> AgentEnvelope:
    """Raises MalformedMessage where a rule of `coordination.proto` is broken."""
    kind = _payload(message, _AGENT_BY_FIELD)
    return AgentEnvelope(values.sender_from(message.sender), kind.back(getattr(message, kind.field)))


class CoordinatorWire:
    """What the coordinator says, as bytes. For any thread.

    It tells thousands of workers the same, and a decision holds a number for each of them: a message that is said again
    is not converted again. (The fields of a protobuf message may stand one after the other in any order.)
    """

    def __init__(self) -> None:
        self._last: tuple[CoordinatorMessage | None, bytes] = None, b""

    def encode(self, envelope: CoordinatorEnvelope) -> bytes:
        """A CoordinatorEnvelope of `coordination.proto`.

        Raises MalformedMessage where a value does not fit the wire, or the whole is above `MESSAGE_BYTES_MAX`.
        """
        kind = _kind_of(envelope.message)
        with _fitting(kind):
            whole = pb.CoordinatorEnvelope(receiver=values.sender_to(envelope.receiver)).SerializeToString()
            whole += self._content(kind, envelope.message)
        _check_size(kind, len(whole))
        return whole

    def _content(self, kind: Kind, message: CoordinatorMessage) -> bytes:
        last, content = self._last
        if message is not last:
            content = pb.CoordinatorEnvelope(**{kind.field: kind.to(message)}).SerializeToString()
            self._last = message, content
        return content


def coordinator_from_proto(message: pb.CoordinatorEnvelope) -> CoordinatorEnvelope:
    """Raises MalformedMessage where a rule of `coordination.proto` is broken."""
    kind = _payload(message, _COORDINATOR_BY_FIELD)
    return CoordinatorEnvelope(values.sender_from(message.receiver), kind.back(getattr(message, kind.field)))


def _kind_of(message: Any) -> Kind:
    kind = _BY_CLASS.get(type(message))
    if kind is None:
        raise MalformedMessage(f"{type(message).__name__} is no message of the protocol")
    return kind


@contextmanager
def _fitting(kind: Kind) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, AttributeError) as error:
        raise MalformedMessage(f"{kind.cls.__name__} does not fit the wire: {error}") from error


def _check_size(kind: Kind, size_bytes: int) -> None:
    if size_bytes > MESSAGE_BYTES_MAX:
        raise MalformedMessage(f"{kind.cls.__name__} takes {size_bytes} bytes: at most {MESSAGE_BYTES_MAX} can be sent")


def _payload(message: pb.AgentEnvelope | pb.CoordinatorEnvelope, kinds: dict[str, Kind]) -> Kind:
    kind = kinds.get(message.WhichOneof("message") or "")
    if kind is None:
        raise MalformedMessage("the envelope holds no message that this version knows")
    return kind
