"""What an agent has said and no stream has taken yet. Bounded; never makes the caller wait."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from distckpt.rpc.checks import MESSAGE_BYTES_MAX
from distckpt.rpc.fragments import cut
from distckpt.rpc.v1 import coordination_pb2 as pb

UNSENT_MAX = 256
UNSENT_BYTES_MAX = 2 * MESSAGE_BYTES_MAX


class Outbox:
    """`dropped` counts what was not sent, or may not have been: no room, or a stream that broke."""

    def __init__(self) -> None:
        self.dropped = 0
        self._changed = threading.Condition()
        self._unsent: deque[tuple[int, pb.AgentEnvelope]] = deque()
        self._bytes = 0
        self._closed = False

    def send(self, message: pb.AgentEnvelope) -> None:
        size_bytes = message.ByteSize()
        with self._changed:
            full = len(self._unsent) >= UNSENT_MAX or self._bytes + size_bytes > UNSENT_BYTES_MAX
            if full or self._closed:
                self.dropped += 1
                return
            self._unsent.append((size_bytes, message))
            self._bytes += size_bytes
            self._changed.notify_all()

    def close(self) -> None:
        """Takes no more: a stream that has sent what is here has sent everything."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def discard(self) -> None:
        """The stream that would have sent it has broken. The protocol repeats: the next one begins with what is new."""
        with self._changed:
            self.dropped += len(self._unsent)
            self._unsent.clear()
            self._bytes = 0

    def take(self, requests: Requests, until: float) -> pb.AgentEnvelope | None:
        """The next message, as soon as there is one; None where `requests` is to end, and after `until`."""
        with self._changed:
            self._changed.wait_for(lambda: self._unsent or self._closed or requests.ended, until - time.monotonic())
            is_time = time.monotonic() >= until and not self._closed
            if requests.ended or is_time or not self._unsent:
                return None
            size_bytes, message = self._unsent.popleft()
            self._bytes -= size_bytes
            return message

    def take_heartbeat(self) -> pb.AgentEnvelope | None:
        """The next heartbeat, past what was said before it; None: there is none. The network may swap them as well."""
        with self._changed:
            for index, (size_bytes, message) in enumerate(self._unsent):
                if message.HasField("heartbeat"):
                    del self._unsent[index]
                    self._bytes -= size_bytes
                    return message
        return None

    def end(self, requests: Requests, *, broken: bool) -> None:
        """The stream of `requests` is over; `broken`: what it was sending may be lost."""
        with self._changed:
            requests.ended = True
            self.dropped += broken and requests.sending
            self._changed.notify_all()


class Requests(Iterator[pb.AgentEnvelope]):
    """What one stream sends: for the thread that gRPC gives it, which asks for the next message once one is sent.

    Begins with `opening`. Ends after `last_s`, having called `renew`, which opens the next stream; once the outbox is
    closed and empty; and when the stream has ended. A large message goes in fragments, between which heartbeats pass.
    """

    def __init__(self, outbox: Outbox, opening: pb.AgentEnvelope, last_s: float, renew: Callable[[], None]) -> None:
        self.ended = False
        self.sending = False
        self._outbox = outbox
        self._opening: pb.AgentEnvelope | None = opening
        self._rest: deque[pb.AgentEnvelope] = deque()
        self._until = time.monotonic() + last_s
        self._renew = renew
        self._thread: threading.Thread | None = None

    def __next__(self) -> pb.AgentEnvelope:
        self._thread = threading.current_thread()
        opening, self._opening = self._opening, None
        if opening is not None:
            return opening
        if self._rest and not self.ended:
            return self._outbox.take_heartbeat() or self._rest.popleft()
        self.sending = False
        message = self._outbox.take(self, self._until)
        if message is None:
            if not self.ended:
                self._renew()
            raise StopIteration
        self.sending = True
        self._rest = cut(message)
        return self._rest.popleft()

    def join(self, timeout_s: float) -> None:
        """Waits for gRPC's thread to end, as it does once the stream has ended."""
        if self._thread is not None:
            self._thread.join(timeout_s)
