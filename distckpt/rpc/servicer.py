"""The two calls of `coordination.proto` as the server answers them, and who may make them.

Lives on the server's event loop. `on_message` and `on_disconnect` are called there: they must not block.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, NoReturn

import grpc

from distckpt.protocol.messages import AgentEnvelope, Sender, Written
from distckpt.protocol.staged import foreign_handle
from distckpt.rpc import convert, values
from distckpt.rpc.checks import MalformedMessage
from distckpt.rpc.credentials import workers_named
from distckpt.rpc.transport import WATCHING
from distckpt.rpc.v1 import coordination_pb2 as pb
from distckpt.rpc.watchers import End, Incarnation, Watcher, Watchers

log = logging.getLogger("distckpt.rpc")

# The stream is ended while some of the call's deadline is left, so that its end is not taken for a lost connection.
_WATCH_SHARE = 0.9
_WATCH_MAX_S = 3600.0

Context = grpc.aio.ServicerContext[Any, Any]


class _NotPermitted(Exception):
    pass


class Servicer:
    """Answers Send and Watch. See `CoordinatorServer` for the callbacks."""

    def __init__(self, on_message: Callable[[AgentEnvelope], None], on_disconnect: Callable[[int, str], None]) -> None:
        self._on_message = on_message
        self._on_disconnect = on_disconnect
        self._watchers = Watchers()
        self._last_refusal = ""

    async def Send(self, request: pb.AgentEnvelope, context: Context) -> pb.Ack:  # noqa: N802 - gRPC's name
        try:
            envelope = convert.agent_from_proto(request)
            _admit(envelope.sender, context)
            _check_own(envelope)
        except (MalformedMessage, _NotPermitted) as error:
            await self._refuse(error, context)
        self._on_message(envelope)
        return pb.Ack()

    async def Watch(self, request: pb.WatchRequest, context: Context) -> None:  # noqa: N802 - gRPC's name
        try:
            receiver = values.sender_from(request.sender)
            _admit(receiver, context)
        except (MalformedMessage, _NotPermitted) as error:
            await self._refuse(error, context)
        watcher = self._watchers.open(receiver)
        renewal = False
        try:
            renewal = await _feed(watcher, context)
        except asyncio.CancelledError:
            if not watcher.is_cut:
                raise
        finally:
            if self._watchers.close(watcher) and not renewal and watcher.end is not End.STOPPED:
                self._on_disconnect(*watcher.incarnation)
        if watcher.end is End.TOO_SLOW:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, End.TOO_SLOW.value)

    def deliver(self, incarnation: Incarnation, message: bytes) -> None:
        """Queues `message` for the incarnation; dropped if it does not watch, as a network may drop it."""
        watcher = self._watchers.find(incarnation)
        if watcher is not None:
            watcher.offer(message)

    def finish(self) -> None:
        """Ends every stream after what waits in it."""
        for watcher in self._watchers:
            watcher.finish(End.STOPPED)

    async def _refuse(self, error: Exception, context: Context) -> NoReturn:
        refusal = f"refused a message of {context.peer()}: {error}"
        if refusal != self._last_refusal:  # a worker repeats its message: once is enough for a log
            log.warning("%s", refusal)
            self._last_refusal = refusal
        malformed = isinstance(error, MalformedMessage)
        code = grpc.StatusCode.INVALID_ARGUMENT if malformed else grpc.StatusCode.PERMISSION_DENIED
        await context.abort(code, str(error))


def coordination_handler(servicer: Servicer) -> grpc.GenericRpcHandler[Any, Any]:
    """The service, to be added to a `grpc.aio` server. The generated one would make the bytes of each message anew."""
    name = pb.DESCRIPTOR.services_by_name["Coordination"].full_name
    send = grpc.unary_unary_rpc_method_handler(servicer.Send, pb.AgentEnvelope.FromString, pb.Ack.SerializeToString)
    watch = grpc.unary_stream_rpc_method_handler(servicer.Watch, pb.WatchRequest.FromString)
    return grpc.method_handlers_generic_handler(name, {"Send": send, "Watch": watch})


def _admit(sender: Sender, context: Context) -> None:
    """Raises where the certificate of the connection speaks for other workers than the sender."""
    speaks_for = workers_named(context.auth_context().get("x509_subject_alternative_name", ()))
    if speaks_for and sender.worker not in speaks_for:
        owners = ", ".join(str(worker) for worker in sorted(speaks_for))
        raise _NotPermitted(f"the certificate of worker {owners} cannot speak for worker {sender.worker}")


def _check_own(envelope: AgentEnvelope) -> None:
    """Raises where a worker hands in a file that it did not stage: it would be published, or discarded, in its name."""
    sender, message = envelope.sender, envelope.message
    if not isinstance(message, Written):
        return
    foreign = foreign_handle(sender, message)
    if foreign is not None:
        raise _NotPermitted(f"{foreign!r} is no file that worker {sender.worker} staged for round {message.round}")


async def _feed(watcher: Watcher, context: Context) -> bool:
    """Sends what waits until the stream is to end; True if that is because of its deadline."""
    await context.send_initial_metadata(((WATCHING, "1"),))
    try:
        async with asyncio.timeout(_patience_s(context)):
            while (message := await watcher.next()) is not None:
                await context.write(message)
    except TimeoutError:
        return True
    return False


def _patience_s(context: Context) -> float:
    remaining = context.time_remaining()
    return _WATCH_MAX_S if remaining is None else min(_WATCH_SHARE * remaining, _WATCH_MAX_S)
