"""The coordinator's end of the wire: gRPC on an event loop in one thread of its own, however many agents there are.

The caller promises quick callbacks (they hold up the loop), and to call `stop`; a process that forgets it still ends.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import ipaddress
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

import grpc

from distckpt.errors import ConfigurationError, CoordinatorUnreachable
from distckpt.protocol.messages import AgentEnvelope, CoordinatorEnvelope
from distckpt.rpc import convert
from distckpt.rpc.credentials import Insecure, Security
from distckpt.rpc.health import health_handler
from distckpt.rpc.operations import Operated, OperationsServicer
from distckpt.rpc.servicer import Servicer, coordination_handler
from distckpt.rpc.streams import Incarnation
from distckpt.rpc.transport import OPTIONS, SILENCE_S, keepalive
from distckpt.rpc.v1 import operations_pb2_grpc

_CALLS_MAX = 16_384
_CALLS_PER_WORKER_MAX = 4  # its stream, the one that replaces it, and what is left of a process that has died
_HANDSHAKE_MS = 10_000
# Each connection has a buffer for what is sent: 12 KiB less than by default, for 1,000 workers.
_TLS_RECORD_BYTES = 4_096
_STOP_S = 5.0

_SERVER_OPTIONS = (
    *OPTIONS,
    ("grpc.so_reuseport", 0),  # else two servers may share a given port, and each hears half of the agents
    ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
    ("grpc.tsi.max_frame_size", _TLS_RECORD_BYTES),
)


class CoordinatorServer:
    """Listens for agents. `on_message` gets what they say; `on_disconnect` the worker and incarnation whose connection
    broke (a process that died, a machine that vanished, a reader that was too slow). `operated` is what tools ask of.
    All are called on the server's thread and must not block.

    `host` is the name under which others reach this machine. It listens on all addresses of the machine, as TensorFlow
    does, unless that name is the loopback's. `port` 0 takes a free one. Made for `world_size` workers, each of which is
    lost if it is not heard of for `silence_s`.
    """

    def __init__(
        self,
        on_message: Callable[[AgentEnvelope], None],
        on_disconnect: Callable[[int, str], None],
        operated: Operated,
        credentials: Security,
        host: str,
        port: int = 0,
        *,
        world_size: int = 1,
        silence_s: float = SILENCE_S,
    ) -> None:
        self._servicer = Servicer(on_message, on_disconnect)
        self._operations = OperationsServicer(operated)
        self._credentials = credentials
        self._host = host
        self._port = port
        self._calls_max = max(_CALLS_MAX, _CALLS_PER_WORKER_MAX * world_size)
        self._silence_s = silence_s
        self._wire = convert.CoordinatorWire()
        self._said: deque[tuple[Incarnation, bytes]] = deque()
        self._will_deliver = False
        self._started: Future[str] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._grace_s = 0.0
        self._thread = threading.Thread(target=self._run, name="distckpt-server", daemon=True)

    def start(self, deadline_s: float) -> str:
        """Listens, and returns the address `host:port` to connect to.

        Raises ConfigurationError where the port cannot be had, CoordinatorUnreachable after `deadline_s`.
        """
        self._thread.start()
        # CPython ends daemon threads by unwinding them, which C++ frames may answer with an abort: stopped before.
        atexit.register(self.stop, 0.0)
        try:
            return self._started.result(deadline_s)
        except TimeoutError as error:
            raise CoordinatorUnreachable(f"the server did not start within {deadline_s} s") from error

    def send(self, envelope: CoordinatorEnvelope) -> None:
        """Queues a message for the incarnation it names, from any thread, without waiting.

        Dropped where that incarnation is not connected: the protocol repeats. Raises MalformedMessage where it cannot
        be sent at all.
        """
        message = self._wire.encode(envelope)
        self._said.append(((envelope.receiver.worker, envelope.receiver.incarnation), message))
        if not self._will_deliver:
            self._will_deliver = True  # before the loop, which sets it back, may hear of it
            if not self._call(self._deliver):
                self._will_deliver = False

    def stop(self, grace_s: float) -> None:
        """Sends what waits for up to `grace_s`, then ends. Returns within `grace_s` and 5 s; may be called twice."""
        atexit.unregister(self.stop)
        self._grace_s = grace_s
        self._call(self._stop.set)
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(grace_s + _STOP_S)

    def _deliver(self) -> None:
        """All that was said until now, at once: to wake the loop for each of a thousand messages would take longer than
        to send them. (What is said after the first line wakes it again; Python carries out all of this in order.)
        """
        self._will_deliver = False
        while self._said:
            self._servicer.deliver(*self._said.popleft())

    def _call(self, action: Callable[[], None]) -> bool:
        """False where no loop will do it: it has not begun, or has ended, and so have the streams."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(action)
                return True
        return False

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:
            if self._started.done():
                raise
            self._started.set_exception(error)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        server = grpc.aio.server(options=self._options(), maximum_concurrent_rpcs=self._calls_max)
        operations_pb2_grpc.add_OperationsServicer_to_server(  # type: ignore[no-untyped-call] # generated
            self._operations, server
        )
        server.add_generic_rpc_handlers((coordination_handler(self._servicer), health_handler()))
        port = self._listen(server)
        await server.start()
        self._started.set_result(f"{_bracketed(self._host)}:{port}")
        await self._stop.wait()
        self._servicer.finish()
        await server.stop(self._grace_s)

    def _options(self) -> tuple[tuple[str, int], ...]:
        return (
            *_SERVER_OPTIONS,
            *keepalive(self._silence_s),
            # What waits for this process's attention. By default gRPC cancels some calls as soon as there are 1,000, as
            # there are when 1,000 workers connect at once: they would come back only later.
            ("grpc.server.max_pending_requests", self._calls_max),
            ("grpc.server.max_pending_requests_hard_limit", self._calls_max),
        )

    def _listen(self, server: grpc.aio.Server) -> int:
        address = f"{_bind_host(self._host)}:{self._port}"
        try:
            if isinstance(self._credentials, Insecure):
                return server.add_insecure_port(address)
            return server.add_secure_port(address, self._credentials.for_server())
        except RuntimeError as error:
            raise ConfigurationError(f"cannot listen on {address}: {error}") from error


def _bind_host(host: str) -> str:
    if host == "localhost":
        return "127.0.0.1"
    try:
        return _bracketed(host) if ipaddress.ip_address(host).is_loopback else "[::]"
    except ValueError:  # a name: it may resolve to an address that is not this machine's own (a service's, a gateway's)
        return "[::]"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
