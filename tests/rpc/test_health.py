"""Probes that speak gRPC's standard health protocol get its standard answers."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

DEADLINE_S = 60.0
CHECK = "/grpc.health.v1.Health/Check"


@pytest.fixture
def check(serve: Any, keys: Any) -> Any:
    worker = keys[1][0]
    options = (("grpc.ssl_target_name_override", worker.server_name),)
    with grpc.secure_channel(serve().address, worker.for_client(), options=options) as channel:
        yield lambda request: channel.unary_unary(CHECK)(request, timeout=DEADLINE_S)


def test_a_running_server_and_its_service_are_serving(check: Any) -> None:
    name = b"distckpt.rpc.v1.Coordination"
    assert check(b"") == b"\x08\x01"
    assert check(b"\x0a" + bytes([len(name)]) + name) == b"\x08\x01"


def test_a_service_that_is_not_here_is_not_found(check: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        check(b"\x0a\x05other")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
