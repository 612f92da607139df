"""An agent's end of the wire: says things without waiting, and hears the coordinator on a thread of its own.

The caller promises quick callbacks (they hold up what is heard: who falls far behind is cut off), and to call `close`;
a process that forgets it still ends. What cannot be sent now is dropped and counted, since the protocol repeats.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import random
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from distckpt.protocol.messages import AgentEnvelope, CoordinatorEnvelope, Sender
from distckpt.rpc import convert, values
from distckpt.rpc.credentials import Insecure, Security
from distckpt.rpc.outbox import Outbox, Requests
from distckpt.rpc.transport import CONNECTED, OPTIONS, SILENCE_S, keepalive
from distckpt.rpc.v1 import coordination_pb2 as pb
from distckpt.rpc.v1 import coordination_pb2_grpc as pb_grpc

log = logging.getLogger("distckpt.rpc")

STREAM_S = 600.0
# The share of that after which the next stream is opened: not that of a thousand agents, that came together, at once.
_RENEWAL = (0.6, 0.9)
_BACKOFF_FIRST_S = 0.1
_BACKOFF_MAX_S = 2.0
_CLOSE_S = 5.0
_FOR_GOOD = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED)

CLIENT_OPTIONS = (
    *OPTIONS,
    ("grpc.enable_http_proxy", 0),  # a cluster's proxy is not for its own machines
    ("grpc.service_config_disable_resolution", 1),  # asks the DNS for a TXT record at every connection
    ("grpc.use_local_subchannel_pool", 1),  # a connection of its own, also beside another agent of the process
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


@dataclass(frozen=True, slots=True)
class _Stream:
    call: Any
    requests: Requests


class AgentClient:
    """Speaks with the coordinator at `address` (host:port) for `sender`, in a world where who is not heard of for
    `silence_s` is lost.

    `on_message` gets what the coordinator says to this incarnation; `on_connected` is called when it begins to be
    heard, `on_disconnected` with a reason when it no longer is, or could not be reached (again only where the reason
    changes). All three are called on the client's thread, none after `close` has returned.
    """

    def __init__(
        self,
        address: str,
        credentials: Security,
        sender: Sender,
        *,
        silence_s: float = SILENCE_S,
        on_message: Callable[[CoordinatorEnvelope], None],
        on_connected: Callable[[], None],
        on_disconnected: Callable[[str], None],
    ) -> None:
        self._on_message = on_message
        self._on_connected = on_connected
        self._on_disconnected = on_disconnected
        self._opening = pb.AgentEnvelope(sender=values.sender_to(sender))
        self._channel = open_channel(address, credentials, silence_s)
        self._stub = pb_grpc.CoordinationStub(self._channel)  # type: ignore[no-untyped-call] # generated
        self._outbox = Outbox()
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._streams: deque[_Stream] = deque()  # the one that is heard, and the one that is to replace it
        self._state: str | None = None  # why it is not connected; "": it is; None: not known yet
        self._last_refusal = ""
        self._thread = threading.Thread(target=self._run, name=f"distckpt-agent-{sender.worker}", daemon=True)

    @property
    def dropped(self) -> int:
        """How many messages were not sent, or may not have been."""
        return self._outbox.dropped

    def start(self) -> None:
        """Connects, and keeps connected until `close`."""
        self._open()
        self._thread.start()
        # CPython ends daemon threads by unwinding them, which C++ frames may answer with an abort: closed before.
        atexit.register(self.close, 0.0)

    def send(self, envelope: AgentEnvelope) -> None:
        """Sends without waiting, from any thread. Raises MalformedMessage where the message cannot be sent at all."""
        self._outbox.send(convert.agent_to_proto(envelope))

    def close(self, grace_s: float = 1.0) -> None:
        """Waits up to `grace_s` until the coordinator has what was sent, then ends. Returns within `grace_s` and 5 s;
        may be called twice.
        """
        atexit.unregister(self.close)
        self._closing.set()
        self._outbox.close()
        self._join(grace_s)
        with self._lock:
            for stream in self._streams:
                stream.call.cancel()
        self._join(_CLOSE_S)
        self._outbox.discard()
        self._channel.close()

    def _join(self, timeout_s: float) -> None:
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        backoff_s = _BACKOFF_FIRST_S
        while (stream := self._current()) is not None:
            if self._listen(stream.call):
                backoff_s = _BACKOFF_FIRST_S
            if not self._end(stream):
                self._closing.wait(backoff_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads reconnects, no secret
                backoff_s = min(2 * backoff_s, _BACKOFF_MAX_S)

    def _current(self) -> _Stream | None:
        """The stream to be heard; None once there will be no more."""
        if not self._streams:
            self._open()
        return self._streams[0] if self._streams else None

    def _open(self) -> Any:
        """Opens the next stream, unless it is over; returns the call."""
        with self._lock:
            if self._closing.is_set():
                return None
            last_s = STREAM_S * random.uniform(*_RENEWAL)  # noqa: S311 - no secret
            requests = Requests(self._outbox, self._opening, last_s, self._renew)
            call = self._stub.Connect(requests, timeout=STREAM_S)
            self._streams.append(_Stream(call, requests))
            return call

    def _renew(self) -> None:
        """Opens the next stream while this one still stands, on the thread that gRPC took what was said from. This one
        is half-closed when the next one stands, and heard to its end before the next one is heard: nothing is lost.
        """
        call = self._open()
        if call is not None:
            call.initial_metadata()

    def _listen(self, call: Any) -> bool:
        """Hands on what comes until the stream ends; `call` then tells why. False: it never stood."""
        stood = any(key == CONNECTED for key, _ in call.initial_metadata())
        if stood:
            self._tell("")
        with contextlib.suppress(grpc.RpcError):
            for message in call:
                _guarded(self._hear, message)
        return stood

    def _end(self, stream: _Stream) -> bool:
        """What is to be done about a stream that has ended. True if the next one is open already."""
        code, details = stream.call.code(), stream.call.details()
        is_ok = code is grpc.StatusCode.OK
        self._outbox.end(stream.requests, broken=not is_ok)
        stream.requests.join(_CLOSE_S)
        if code in _FOR_GOOD and details != self._last_refusal:  # it is repeated: once is enough for a log
            self._last_refusal = details
            log.error("the coordinator refused a message: %s", details)
        if not is_ok:
            self._tell(f"{code.name}: {details}")
        with self._lock:
            self._streams.popleft()
            if not self._streams:
                self._outbox.discard()
            return bool(self._streams)

    def _hear(self, message: pb.CoordinatorEnvelope) -> None:
        self._on_message(convert.coordinator_from_proto(message))

    def _tell(self, state: str) -> None:
        if state == self._state or self._closing.is_set():
            return
        self._state = state
        if state:
            _guarded(self._on_disconnected, state)
        else:
            _guarded(self._on_connected)


def _guarded(callback: Callable[..., None], *arguments: Any) -> None:
    """A callback that raises is a bug, and must not end the thread that hears the coordinator."""
    try:
        callback(*arguments)
    except Exception:
        log.exception("what the coordinator said, or that it did, could not be handled")


def open_channel(address: str, credentials: Security, silence_s: float = SILENCE_S) -> grpc.Channel:
    """A connection of its own to the coordinator at `address`; it is made by the first call."""
    options: tuple[tuple[str, int | str], ...] = (*CLIENT_OPTIONS, *keepalive(silence_s))
    if isinstance(credentials, Insecure):
        return grpc.insecure_channel(address, options=options)
    if credentials.server_name is not None:
        options = (*options, ("grpc.ssl_target_name_override", credentials.server_name))
    return grpc.secure_channel(address, credentials.for_client(), options=options)
