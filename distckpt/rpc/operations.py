"""The calls of `operations.proto` as the server answers them.

Lives on the server's event loop, beside `Servicer`: what `Operated` does there must not block. Whoever got through the
TLS handshake may call: the directory's keys are the trust.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Any, Protocol

import grpc

from distckpt.protocol.messages import Wish, WishOver
from distckpt.report import JobStatus
from distckpt.rpc import checks, values
from distckpt.rpc.checks import MalformedMessage
from distckpt.rpc.v1 import operations_pb2 as pb
from distckpt.rpc.v1 import operations_pb2_grpc as pb_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class Operated(Protocol):
    """What the calls are carried out on: the coordinator as it runs."""

    def status(self) -> JobStatus: ...

    def picture(self) -> bytes | None:
        """How the job stands, as JSON; None where nobody watches it. Called on a thread of its own: it may read."""

    def save_now(self, wish: Wish) -> Future[WishOver]: ...


class OperationsServicer(pb_grpc.OperationsServicer):
    def __init__(self, operated: Operated) -> None:
        self._operated = operated

    async def SaveNow(self, request: pb.SaveNowRequest, context: Context) -> pb.SaveNowReply:  # noqa: N802 - gRPC's name
        try:
            reason = checks.text(request.reason, "save_now.reason")
            wish = Wish(reason, checks.seconds(request.within_s, "save_now.within_s"))
        except MalformedMessage as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        # Not cancelled with the call: the coordinator answers it all the same.
        answer = await asyncio.shield(asyncio.wrap_future(self._operated.save_now(wish)))
        cause = None if answer.cause is None else values.cause_to(answer.cause)
        return pb.SaveNowReply(name=answer.name, step=answer.step, cause=cause)

    async def Status(self, _: pb.StatusRequest, __: Context) -> pb.StatusReply:  # noqa: N802 - gRPC's name
        status = self._operated.status()
        return pb.StatusReply(
            job=status.job,
            generation=status.generation,
            world_size=status.world_size,
            present=status.present,
        )

    async def Picture(self, _: pb.PictureRequest, context: Context) -> pb.PictureReply:  # noqa: N802 - gRPC's name
        json = await asyncio.to_thread(self._operated.picture)
        if json is None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "nobody watches this job")
        return pb.PictureReply(json=json)
