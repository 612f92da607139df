"""What an agent has said and the coordinator has not acknowledged yet. Bounded; never makes the caller wait."""

from __future__ import annotations

import logging
import threading
from typing import Any

import grpc

from distckpt.rpc.checks import MESSAGE_BYTES_MAX
from distckpt.rpc.v1 import coordination_pb2 as pb

log = logging.getLogger("distckpt.rpc")

UNACKNOWLEDGED_MAX = 256
UNACKNOWLEDGED_BYTES_MAX = 2 * MESSAGE_BYTES_MAX
_DEADLINE_S = 5.0
_SLOWEST_BYTES_PER_S = 1_000_000  # a large message gets more time: else it would be repeated, and cut short, for ever
_FOR_GOOD = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.RESOURCE_EXHAUSTED)


class Outbox:
    """Sends through `call`, a unary gRPC method. `dropped` counts what was not acknowledged, for whatever reason."""

    def __init__(self, call: Any) -> None:
        self.dropped = 0
        self._call = call
        self._changed = threading.Condition()
        self._messages = 0
        self._bytes = 0
        self._closed = False
        self._last_refusal = ""

    def send(self, message: pb.AgentEnvelope) -> None:
        size_bytes = message.ByteSize()
        if not self._reserve(size_bytes):
            return
        try:
            future = self._call.future(message, timeout=_DEADLINE_S + size_bytes / _SLOWEST_BYTES_PER_S)
        except ValueError:  # what gRPC raises once the channel is closed
            self._settle(size_bytes, acknowledged=False)
            return
        future.add_done_callback(lambda _: self._done(future, size_bytes))

    def close(self, grace_s: float) -> None:
        """Takes no more, and waits up to `grace_s` for what was sent to be acknowledged."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: self._messages == 0, grace_s)

    def _reserve(self, size_bytes: int) -> bool:
        with self._changed:
            full = self._messages >= UNACKNOWLEDGED_MAX or self._bytes + size_bytes > UNACKNOWLEDGED_BYTES_MAX
            if full or self._closed:
                self.dropped += 1
                return False
            self._messages += 1
            self._bytes += size_bytes
            return True

    def _done(self, future: Any, size_bytes: int) -> None:
        code = future.code()
        if code in _FOR_GOOD and future.details() != self._last_refusal:  # it is repeated: once is enough for a log
            self._last_refusal = future.details()
            log.error("the coordinator refused a message: %s", self._last_refusal)
        self._settle(size_bytes, acknowledged=code is grpc.StatusCode.OK)

    def _settle(self, size_bytes: int, *, acknowledged: bool) -> None:
        with self._changed:
            self._messages -= 1
            self._bytes -= size_bytes
            if not acknowledged:
                self.dropped += 1
            self._changed.notify_all()
