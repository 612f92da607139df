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
from collections.abc import Callable
from typing import Any

import grpc

from distckpt.protocol.messages import AgentEnvelope, CoordinatorEnvelope, Sender
from distckpt.rpc import convert, values
from distckpt.rpc.credentials import Insecure, Security
from distckpt.rpc.outbox import Outbox
from distckpt.rpc.transport import OPTIONS, SILENCE_S, WATCHING, keepalive
from distckpt.rpc.v1 import coordination_pb2 as pb
from distckpt.rpc.v1 import coordination_pb2_grpc as pb_grpc

log = logging.getLogger("distckpt.rpc")

WATCH_S = 600.0
_BACKOFF_FIRST_S = 0.1
_BACKOFF_MAX_S = 2.0
_CLOSE_S = 5.0

CLIENT_OPTIONS = (
    *OPTIONS,
    ("grpc.enable_http_proxy", 0),  # a cluster's proxy is not for its own machines
    ("grpc.service_config_disable_resolution", 1),  # asks the DNS for a TXT record at every connection
    ("grpc.use_local_subchannel_pool", 1),  # a connection of its own, also beside another agent of the process
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


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
        self._request = pb.WatchRequest(sender=values.sender_to(sender))
        self._channel = open_channel(address, credentials, silence_s)
        self._stub = pb_grpc.CoordinationStub(self._channel)  # type: ignore[no-untyped-call] # generated
        self._outbox = Outbox(self._stub.Send)
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._call: Any = None
        self._state: str | None = None  # why it is not connected; "": it is; None: not known yet
        self._thread = threading.Thread(target=self._run, name=f"distckpt-agent-{sender.worker}", daemon=True)

    @property
    def dropped(self) -> int:
        """How many messages were not acknowledged by the coordinator."""
        return self._outbox.dropped

    def start(self) -> None:
        """Connects, and keeps connected until `close`."""
        self._thread.start()
        # CPython ends daemon threads by unwinding them, which C++ frames may answer with an abort: closed before.
        atexit.register(self.close, 0.0)

    def send(self, envelope: AgentEnvelope) -> None:
        """Sends without waiting, from any thread. Raises MalformedMessage where the message cannot be sent at all."""
        self._outbox.send(convert.agent_to_proto(envelope))

    def close(self, grace_s: float = 1.0) -> None:
        """Waits up to `grace_s` for what was sent, then ends. Returns within `grace_s` and 5 s; may be called twice."""
        atexit.unregister(self.close)
        self._outbox.close(grace_s)
        self._closed.set()
        with self._lock:
            if self._call is not None:
                self._call.cancel()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(_CLOSE_S)
        self._channel.close()

    def _run(self) -> None:
        backoff_s = _BACKOFF_FIRST_S
        while not self._closed.is_set():
            call = self._open_watch()
            if call is None:
                return
            if self._listen(call):
                backoff_s = _BACKOFF_FIRST_S
            if call.code() is not grpc.StatusCode.OK:  # OK: to be renewed
                self._tell(f"{call.code().name}: {call.details()}")
            self._closed.wait(backoff_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads reconnects, no secret
            backoff_s = min(2 * backoff_s, _BACKOFF_MAX_S)

    def _open_watch(self) -> Any:
        with self._lock:
            self._call = None if self._closed.is_set() else self._stub.Watch(self._request, timeout=WATCH_S)
            return self._call

    def _listen(self, call: Any) -> bool:
        """Hands on what comes until the stream ends; `call` then tells why. False: it never stood."""
        stood = any(key == WATCHING for key, _ in call.initial_metadata())
        if stood:
            self._tell("")
        with contextlib.suppress(grpc.RpcError):
            for message in call:
                _guarded(self._hear, message)
        return stood

    def _hear(self, message: pb.CoordinatorEnvelope) -> None:
        self._on_message(convert.coordinator_from_proto(message))

    def _tell(self, state: str) -> None:
        if state == self._state or self._closed.is_set():
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
