"""Tools call a coordinator over the wire with the keys of any worker, and with no others."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from distckpt.errors import CoordinatorUnreachable, Refused
from distckpt.report import JobStatus
from distckpt.rpc.client import open_channel
from distckpt.rpc.credentials import Credentials
from distckpt.rpc.operator import Operator
from distckpt.rpc.v1 import operations_pb2 as pb


def test_what_the_coordinator_says_arrives_as_it_was_said(serve: Any, keys: Any) -> None:
    server = serve()
    server.operated.now = JobStatus("digits", 7, 4, (0, 2, 3))
    with open_channel(server.address, keys[1][2]) as channel:
        assert Operator(channel, "the chief").status() == server.operated.now


def test_how_a_job_stands_arrives_as_it_was_drawn(serve: Any, keys: Any) -> None:
    server = serve()
    server.operated.stands = b'{"at": 1.5}'
    with open_channel(server.address, keys[1][2]) as channel:
        assert Operator(channel, "the chief").picture() == server.operated.stands


def test_a_job_that_nobody_watches_says_so(serve: Any, keys: Any) -> None:
    with open_channel(serve().address, keys[1][2]) as channel, pytest.raises(Refused, match="nobody watches"):
        Operator(channel, "the chief").picture()


def test_keys_of_another_generation_are_not_let_in(serve: Any) -> None:
    _, strangers = Credentials.generate(1)
    stranger = open_channel(serve().address, strangers[0])
    with stranger as channel, pytest.raises(CoordinatorUnreachable, match="the chief does not answer"):
        Operator(channel, "the chief").status()


def test_a_tool_without_keys_is_not_let_in(serve: Any, keys: Any) -> None:
    trusting = grpc.ssl_channel_credentials(keys[1][0].authority)
    options = (("grpc.ssl_target_name_override", keys[1][0].server_name),)
    with grpc.secure_channel(serve().address, trusting, options=options) as channel:
        call = channel.unary_unary("/distckpt.rpc.v1.Operations/Status", pb.StatusRequest.SerializeToString)
        with pytest.raises(grpc.RpcError) as caught:
            call(pb.StatusRequest(), timeout=5.0)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
