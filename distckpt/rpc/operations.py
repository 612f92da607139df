"""The calls of `operations.proto` as the server answers them.

Lives on the server's event loop, beside `Servicer`: what `Operated` does there must not block. Whoever got through the
TLS handshake may call: the directory's keys are the trust.
"""

from __future__ import annotations

from typing import Any, Protocol

import grpc

from distckpt.report import JobStatus
from distckpt.rpc.v1 import operations_pb2 as pb
from distckpt.rpc.v1 import operations_pb2_grpc as pb_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class Operated(Protocol):
    """What the calls are carried out on: the coordinator as it runs."""

    def status(self) -> JobStatus: ...


class OperationsServicer(pb_grpc.OperationsServicer):
    def __init__(self, operated: Operated) -> None:
        self._operated = operated

    async def Status(self, _: pb.StatusRequest, __: Context) -> pb.StatusReply:  # noqa: N802 - gRPC's name
        status = self._operated.status()
        return pb.StatusReply(
            job=status.job,
            generation=status.generation,
            world_size=status.world_size,
            present=status.present,
        )
