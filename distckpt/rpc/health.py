"""gRPC's standard health service, for probes: `grpc.health.v1.Health/Check` answers SERVING while the server runs.

The protocol: https://github.com/grpc/grpc-proto/blob/master/grpc/health/v1/health.proto. Its two messages are written
by hand: they are one field each, and the package that has them (grpcio-health-checking) would tie the version of grpcio
and claim their names in the process-wide pool of descriptors. A probe shows a client certificate, as every client does.
"""

from __future__ import annotations

from typing import Any

import grpc

from distckpt.rpc.v1 import coordination_pb2 as pb

_SERVICE = pb.DESCRIPTOR.services_by_name["Coordination"].full_name.encode()
_KNOWN = (
    b"",  # HealthCheckRequest { string service = 1 } with the empty name: the server as a whole
    b"\x0a" + bytes([len(_SERVICE)]) + _SERVICE,
)
_SERVING = b"\x08\x01"  # HealthCheckResponse { ServingStatus status = 1 } with SERVING = 1


async def _check(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
    if request not in _KNOWN:
        await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
    return _SERVING


def health_handler() -> grpc.GenericRpcHandler[Any, Any]:
    """The service, to be added to a `grpc.aio` server."""
    return grpc.method_handlers_generic_handler(
        "grpc.health.v1.Health", {"Check": grpc.unary_unary_rpc_method_handler(_check)}
    )
