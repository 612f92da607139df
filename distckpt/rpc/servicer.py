"""The call of `coordination.proto` as the server answers it, and who may make it.

Lives on the server's event loop. `on_message` and `on_disconnect` are called there: they must not block.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from distckpt.protocol.messages import AgentEnvelope, Sender, Written
from distckpt.protocol.staged import foreign_handle
from distckpt.rpc import convert, values
from distckpt.rpc.checks import MalformedMessage
from distckpt.rpc.credentials import workers_named
from distckpt.rpc.fragments import Assembly
from distckpt.rpc.streams import End, Incarnation, Stream, Streams
from distckpt.rpc.transport import CONNECTED
from distckpt.rpc.v1 import coordination_pb2 as pb

log = logging.getLogger("distckpt.rpc")

_FIRST_S = 10.0
_CALL_MAX_S = 3600.0

Context = grpc.aio.ServicerContext[Any, Any]


class _NotPermitted(Exception):
    pass


class Servicer:
    """Answers Connect. See `CoordinatorServer` for the callbacks."""

    def __init__(self, on_message: Callable[[AgentEnvelope], None], on_disconnect: Callable[[int, str], None]) -> None:
        self._on_message = on_message
        self._on_disconnect = on_disconnect
        self._streams = Streams()
        self._last_refusal = ""

    async def Connect(self, _: object, context: Context) -> None:  # noqa: N802 - gRPC's name
        try:
            agent = await _whose(context)
            if agent is None:
                return
            stream = Stream(agent, context.write)
            self._streams.open(stream)
            await self._hear(stream, context)
        except (MalformedMessage, _NotPermitted) as error:
            await self._refuse(error, context)
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the stream did not say in time whose it is")
        if stream.end is End.TOO_SLOW:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, End.TOO_SLOW.value)

    def deliver(self, incarnation: Incarnation, message: bytes) -> None:
        """Queues `message` for the incarnation; dropped if it is not connected, as a network may drop it."""
        stream = self._streams.find(incarnation)
        if stream is not None:
            stream.offer(message)

    def finish(self) -> None:
        """Ends every stream after what waits in it."""
        for stream in self._streams:
            stream.finish(End.STOPPED)

    async def _hear(self, stream: Stream, context: Context) -> None:
        """Hands on what the agent says until it has said everything, or the stream is to end."""
        try:
            await context.send_initial_metadata(((CONNECTED, "1"),))
            stream.stand()
            assembly = Assembly()
            while (said := await _read(context)) is not None:
                whole = assembly.add(said)
                if whole is None:
                    continue
                envelope = convert.agent_from_proto(whole)
                _check_sender(envelope.sender, stream.agent)
                _check_own(envelope)
                self._on_message(envelope)
        except asyncio.CancelledError:
            if stream.end is None:  # not the server's own doing
                raise
        finally:
            if self._streams.close(stream) and stream.end is not End.STOPPED:
                self._on_disconnect(*stream.incarnation)

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
    connect = grpc.stream_stream_rpc_method_handler(servicer.Connect, pb.AgentEnvelope.FromString)
    return grpc.method_handlers_generic_handler(name, {"Connect": connect})


async def _read(context: Context) -> pb.AgentEnvelope | None:
    """None once the agent has said everything, or its connection is gone."""
    try:
        said = await context.read()
    except DecodeError as error:
        raise MalformedMessage(f"no AgentEnvelope: {error}") from error
    return said if isinstance(said, pb.AgentEnvelope) else None


async def _whose(context: Context) -> Sender | None:
    """The incarnation that opens the stream; None where it ends before a word. Raises where it may not be opened, and
    TimeoutError where nothing is said.
    """
    remaining_s = context.time_remaining()
    if remaining_s is None or remaining_s > _CALL_MAX_S:
        raise MalformedMessage(f"the call has no deadline within {_CALL_MAX_S:g} s")
    async with asyncio.timeout(_FIRST_S):
        first = await _read(context)
    if first is None:
        return None
    sender = values.sender_from(first.sender)
    _admit(sender, context)
    return sender


def _admit(sender: Sender, context: Context) -> None:
    """Raises where the certificate of the connection speaks for other workers than the sender."""
    speaks_for = workers_named(context.auth_context().get("x509_subject_alternative_name", ()))
    if speaks_for and sender.worker not in speaks_for:
        owners = ", ".join(str(worker) for worker in sorted(speaks_for))
        raise _NotPermitted(f"the certificate of worker {owners} cannot speak for worker {sender.worker}")


def _check_sender(sender: Sender, agent: Sender) -> None:
    """Raises where someone else speaks than the incarnation whose stream it is, and whose certificate was asked for."""
    if sender != agent:
        raise _NotPermitted(f"the stream of worker {agent.worker} ({agent.incarnation}) cannot speak for {sender}")


def _check_own(envelope: AgentEnvelope) -> None:
    """Raises where a worker hands in a file that it did not stage: it would be published, or discarded, in its name."""
    sender, message = envelope.sender, envelope.message
    if not isinstance(message, Written):
        return
    foreign = foreign_handle(sender, message)
    if foreign is not None:
        raise _NotPermitted(f"{foreign!r} is no file that worker {sender.worker} staged for round {message.round}")
