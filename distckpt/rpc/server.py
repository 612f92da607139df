"""The coordinator's end of the wire: gRPC on an event loop in one thread of its own, however many agents there are.

The caller promises quick callbacks (they hold up the loop), and to call `stop`; a process that forgets it still ends.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import ipaddress
import threading
from collections.abc import Callable
from concurrent.futures import Future

import grpc

from distckpt.errors import ConfigurationError, CoordinatorUnreachable
from distckpt.protocol.messages import AgentEnvelope, CoordinatorEnvelope
from distckpt.rpc import convert
from distckpt.rpc.credentials import Insecure, Security
from distckpt.rpc.health import health_handler
from distckpt.rpc.operations import Operated, OperationsServicer
from distckpt.rpc.servicer import Servicer
from distckpt.rpc.transport import OPTIONS
from distckpt.rpc.v1 import coordination_pb2_grpc as pb_grpc
from distckpt.rpc.v1 import operations_pb2_grpc

_CALLS_MAX = 16_384
_HANDSHAKE_MS = 10_000
_STOP_S = 5.0

_SERVER_OPTIONS = (
    *OPTIONS,
    ("grpc.so_reuseport", 0),  # else two servers may share a given port, and each hears half of the agents
    ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
)


class CoordinatorServer:
    """Listens for agents. `on_message` gets what they say; `on_disconnect` the worker and incarnation whose connection
    broke (a process that died, a machine that vanished, a reader that was too slow). `operated` is what tools ask of.
    All are called on the server's thread and must not block.

    `host` is the name under which others reach this machine. It listens on all addresses of the machine, as TensorFlow
    does, unless that name is the loopback's. `port` 0 takes a free one.
    """

    def __init__(
        self,
        on_message: Callable[[AgentEnvelope], None],
        on_disconnect: Callable[[int, str], None],
        operated: Operated,
        credentials: Security,
        host: str,
        port: int = 0,
    ) -> None:
        self._servicer = Servicer(on_message, on_disconnect)
        self._operations = OperationsServicer(operated)
        self._credentials = credentials
        self._host = host
        self._port = port
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

        Dropped where that incarnation does not watch: the protocol repeats. Raises MalformedMessage where it cannot be
        sent at all.
        """
        message = convert.coordinator_to_proto(envelope)
        incarnation = (envelope.receiver.worker, envelope.receiver.incarnation)
        self._call(lambda: self._servicer.deliver(incarnation, message))

    def stop(self, grace_s: float) -> None:
        """Sends what waits for up to `grace_s`, then ends. Returns within `grace_s` and 5 s; may be called twice."""
        atexit.unregister(self.stop)
        self._grace_s = grace_s
        self._call(self._stop.set)
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(grace_s + _STOP_S)

    def _call(self, action: Callable[[], None]) -> None:
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended: so have the streams
                loop.call_soon_threadsafe(action)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:
            if self._started.done():
                raise
            self._started.set_exception(error)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        server = grpc.aio.server(options=_SERVER_OPTIONS, maximum_concurrent_rpcs=_CALLS_MAX)
        pb_grpc.add_CoordinationServicer_to_server(self._servicer, server)  # type: ignore[no-untyped-call] # generated
        operations_pb2_grpc.add_OperationsServicer_to_server(  # type: ignore[no-untyped-call] # generated
            self._operations, server
        )
        server.add_generic_rpc_handlers((health_handler(),))
        port = self._listen(server)
        await server.start()
        self._started.set_result(f"{_bracketed(self._host)}:{port}")
        await self._stop.wait()
        self._servicer.finish()
        await server.stop(self._grace_s)

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
