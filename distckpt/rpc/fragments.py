"""A large message of an agent in fragments, so that its heartbeats need not wait behind it (coordination.proto)."""

from __future__ import annotations

from collections import deque

from google.protobuf.message import DecodeError

from distckpt.rpc.checks import MESSAGE_BYTES_MAX, MalformedMessage
from distckpt.rpc.v1 import coordination_pb2 as pb

FRAGMENT_BYTES = 256 * 1024


def cut(message: pb.AgentEnvelope) -> deque[pb.AgentEnvelope]:
    """`message` in fragments; as it is where it is no larger than one."""
    if message.ByteSize() <= FRAGMENT_BYTES:
        return deque([message])
    whole = message.SerializeToString()
    ends = range(FRAGMENT_BYTES, len(whole) + FRAGMENT_BYTES, FRAGMENT_BYTES)
    pieces = (pb.Fragment(data=whole[end - FRAGMENT_BYTES : end], last=end >= len(whole)) for end in ends)
    return deque(pb.AgentEnvelope(fragment=piece) for piece in pieces)


class Assembly:
    """What one stream brings, put together."""

    def __init__(self) -> None:
        self._data = bytearray()

    def add(self, said: pb.AgentEnvelope) -> pb.AgentEnvelope | None:
        """`said` itself, or what is whole with this fragment; None: there is more to come. Raises MalformedMessage."""
        if not said.HasField("fragment"):
            return said
        self._data += said.fragment.data
        if len(self._data) > MESSAGE_BYTES_MAX:
            raise MalformedMessage(f"the fragments of a message have more than {MESSAGE_BYTES_MAX} bytes")
        if not said.fragment.last:
            return None
        whole, self._data = bytes(self._data), bytearray()
        try:
            return pb.AgentEnvelope.FromString(whole)
        except DecodeError as error:
            raise MalformedMessage(f"the fragments of a message are no AgentEnvelope: {error}") from error
