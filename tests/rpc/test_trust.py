"""Who may not read the shared directory may not speak, and no worker speaks for another."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from distckpt.protocol.messages import AgentEnvelope, Alive, CoordinatorEnvelope, Heartbeat, Sender
from distckpt.rpc import servicer, values
from distckpt.rpc.checks import MESSAGE_BYTES_MAX
from distckpt.rpc.credentials import SERVER_NAME, Credentials, Insecure
from distckpt.rpc.v1 import coordination_pb2 as pb
from distckpt.rpc.v1 import coordination_pb2_grpc as pb_grpc
from distckpt.rpc.v1 import operations_pb2

DEADLINE_S = 60.0
HEARTBEAT = pb.AgentEnvelope(sender=values.sender_to(Sender("job", 7, 1, "first")), heartbeat=pb.Heartbeat(step=3))


def still_serves(server: Any, connect: Any, worker: int = 2) -> None:
    client = connect(server.address, worker, incarnation="honest")
    client.states.wait_for("")
    client.client.send(AgentEnvelope(client.sender, Heartbeat(99)))
    server.messages.wait_for(AgentEnvelope(client.sender, Heartbeat(99)))


@pytest.fixture
def code_of(say: Any) -> Callable[..., grpc.StatusCode]:
    """How the server refuses a message."""

    def code(stub: Any, message: pb.AgentEnvelope = HEARTBEAT) -> grpc.StatusCode:
        with pytest.raises(grpc.RpcError) as caught:
            say(stub, message)
        refused: grpc.StatusCode = caught.value.code()
        return refused

    return code


def test_a_plaintext_client_is_refused(serve: Any, connect: Any, code_of: Any) -> None:
    server = serve()
    with grpc.insecure_channel(server.address) as channel:
        assert code_of(pb_grpc.CoordinationStub(channel)) is grpc.StatusCode.UNAVAILABLE
    still_serves(server, connect)
    assert len(server.messages.items) == 1


def test_a_client_without_a_certificate_is_refused(serve: Any, connect: Any, keys: Any, code_of: Any) -> None:
    server = serve()
    trusting = grpc.ssl_channel_credentials(keys[0].authority)
    options = (("grpc.ssl_target_name_override", SERVER_NAME),)
    with grpc.secure_channel(server.address, trusting, options=options) as channel:
        assert code_of(pb_grpc.CoordinationStub(channel)) is grpc.StatusCode.UNAVAILABLE
    still_serves(server, connect)
    assert len(server.messages.items) == 1


def test_a_client_with_a_certificate_of_another_generation_is_refused(
    serve: Any, connect: Any, keys: Any, code_of: Any
) -> None:
    server = serve()
    _, strangers = Credentials.generate(2)
    stranger = grpc.ssl_channel_credentials(keys[0].authority, strangers[1].key, strangers[1].certificate)
    options = (("grpc.ssl_target_name_override", SERVER_NAME),)
    with grpc.secure_channel(server.address, stranger, options=options) as channel:
        assert code_of(pb_grpc.CoordinationStub(channel)) is grpc.StatusCode.UNAVAILABLE
    still_serves(server, connect)
    assert len(server.messages.items) == 1


def test_a_coordinator_of_another_generation_is_not_spoken_to(serve: Any, connect: Any) -> None:
    server = serve(Credentials.generate(1)[0])
    client = connect(server.address)
    client.states.wait(lambda states: "UNAVAILABLE" in states[-1] if states else False)
    client.client.send(AgentEnvelope(client.sender, Heartbeat(3)))
    client.client.close(DEADLINE_S)
    assert client.client.dropped == 1
    assert not server.messages.items


def test_a_worker_cannot_pose_as_the_coordinator(serve: Any, connect: Any, keys: Any) -> None:
    server = serve(keys[1][2])
    client = connect(server.address)
    client.states.wait(lambda states: "UNAVAILABLE" in states[-1] if states else False)
    client.client.send(AgentEnvelope(client.sender, Heartbeat(3)))
    client.client.close(DEADLINE_S)
    assert not server.messages.items


def test_a_worker_cannot_speak_for_another_one(serve: Any, connect: Any, stub: Any, code_of: Any, caplog: Any) -> None:
    caplog.set_level(logging.WARNING, "distckpt.rpc")
    server = serve()
    bare = stub(server.address, worker=2)
    assert code_of(bare) is grpc.StatusCode.PERMISSION_DENIED
    assert code_of(bare) is grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(grpc.RpcError) as caught:
        next(bare.Connect(iter([pb.AgentEnvelope(sender=HEARTBEAT.sender)]), timeout=DEADLINE_S))
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert caught.value.details() == "the certificate of worker 2 cannot speak for worker 1"
    still_serves(server, connect)
    assert len(server.messages.items) == 1
    assert not server.disconnects.items
    assert caplog.text.count("the certificate of worker 2 cannot speak for worker 1") == 1


@pytest.mark.parametrize(
    "other", [Sender("job", 7, 1, "first"), Sender("job", 7, 2, "second"), Sender("job", 8, 2, "x")]
)
def test_a_stream_speaks_only_for_the_incarnation_that_opened_it(serve: Any, stub: Any, other: Sender) -> None:
    server = serve()
    mine = Sender("job", 7, 2, "x")
    opening, said = (pb.AgentEnvelope(sender=values.sender_to(mine), heartbeat=pb.Heartbeat(step=n)) for n in (0, 1))
    forged = pb.AgentEnvelope(sender=values.sender_to(other), heartbeat=pb.Heartbeat(step=2))
    call = stub(server.address, worker=2).Connect(iter([opening, said, forged, said]), timeout=DEADLINE_S)
    with pytest.raises(grpc.RpcError) as caught:
        next(call)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "the stream of worker 2 (x) cannot speak for" in caught.value.details()
    assert server.messages.items == [AgentEnvelope(mine, Heartbeat(1))]
    server.disconnects.wait_for((2, "x"))


def test_an_agent_that_is_refused_is_told_why(serve: Any, connect: Any, keys: Any, caplog: Any) -> None:
    server = serve()
    client = connect(server.address, worker=1, credentials=keys[1][2])
    client.states.wait_for("PERMISSION_DENIED: the certificate of worker 2 cannot speak for worker 1")
    client.client.send(AgentEnvelope(client.sender, Heartbeat(1)))
    client.client.close(DEADLINE_S)
    assert "the coordinator refused a message: the certificate of worker 2" in caplog.text


def test_a_malformed_message_is_refused_with_its_fault(serve: Any, connect: Any, stub: Any, code_of: Any) -> None:
    server = serve()
    bare = stub(server.address)
    assert code_of(bare, pb.AgentEnvelope(sender=HEARTBEAT.sender)) is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.RpcError) as caught:
        next(bare.Connect(iter([pb.AgentEnvelope()]), timeout=DEADLINE_S))
    assert caught.value.details() == "sender.job is empty"
    still_serves(server, connect)


def test_bytes_that_are_no_message_are_refused(serve: Any, connect: Any, channel: Any) -> None:
    server = serve()
    connecting = channel(server.address).stream_stream("/distckpt.rpc.v1.Coordination/Connect")
    opening = pb.AgentEnvelope(sender=HEARTBEAT.sender).SerializeToString()
    for said in ([b"\xff"], [opening, b"\xff"]):
        with pytest.raises(grpc.RpcError) as caught:
            next(connecting(iter(said), timeout=DEADLINE_S))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "no AgentEnvelope" in caught.value.details()
    still_serves(server, connect)


@pytest.mark.parametrize("deadline_s", [None, 86_400.0])
def test_a_stream_without_a_deadline_is_refused(serve: Any, stub: Any, deadline_s: float | None) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        next(stub(serve().address).Connect(iter([HEARTBEAT]), timeout=deadline_s))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "the call has no deadline within 3600 s"


def test_a_stream_that_does_not_say_whose_it_is_ends(serve: Any, stub: Any, open_stream: Any, monkeypatch: Any) -> None:
    server = serve()
    bare = stub(server.address)
    assert list(bare.Connect(iter([]), timeout=DEADLINE_S)) == []
    monkeypatch.setattr(servicer, "_FIRST_S", 0.05)
    with pytest.raises(grpc.RpcError) as caught:
        next(open_stream(bare))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert caught.value.details() == "the stream did not say in time whose it is"
    assert not server.disconnects.items


def test_an_oversized_message_is_refused_while_others_live(serve: Any, connect: Any, stub: Any, code_of: Any) -> None:
    server = serve()
    heard = connect(server.address)
    heard.states.wait_for("")
    bare = stub(server.address, worker=3, options=(("grpc.max_send_message_length", -1),))
    big = pb.AgentEnvelope(
        sender=values.sender_to(Sender("job", 7, 3, "first")),
        failed=pb.Failed(cause=pb.Cause(message="x" * MESSAGE_BYTES_MAX)),
    )
    assert code_of(bare, big) is grpc.StatusCode.RESOURCE_EXHAUSTED
    heard.client.send(AgentEnvelope(heard.sender, Heartbeat(5)))
    server.messages.wait_for(AgentEnvelope(heard.sender, Heartbeat(5)))
    assert heard.states.items == [""]


@pytest.mark.parametrize(
    "garbage",
    [
        os.urandom(4096),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
    ],
    ids=["noise", "http1", "http2", "half a handshake"],
)
def test_garbage_on_the_port_does_no_harm(serve: Any, connect: Any, garbage: bytes) -> None:
    server = serve()
    with socket.create_connection(("127.0.0.1", server.port), DEADLINE_S) as connection:
        connection.sendall(garbage)
        still_serves(server, connect)
    still_serves(server, connect, worker=3)


def test_garbage_in_the_answers_does_not_end_an_agent(serve: Any, connect: Any) -> None:
    server = serve()
    client = connect(server.address)
    client.states.wait_for("")
    incarnation = (1, "first")
    for broken in (
        pb.CoordinatorEnvelope(),
        pb.CoordinatorEnvelope(receiver=HEARTBEAT.sender, verify=pb.Verify(part=-1)),
    ):
        whole = broken.SerializeToString()
        server.server._call(lambda whole=whole: server.server._servicer.deliver(incarnation, whole))
    server.server.send(CoordinatorEnvelope(client.sender, Alive()))
    client.messages.wait_for(CoordinatorEnvelope(client.sender, Alive()))
    assert len(client.messages.items) == 1


def test_plaintext_works_only_where_both_ends_ask_for_it(serve: Any, connect: Any) -> None:
    server = serve(Insecure())
    client = connect(server.address, credentials=Insecure())
    client.states.wait_for("")
    client.client.send(AgentEnvelope(client.sender, Heartbeat(1)))
    server.messages.wait_for(AgentEnvelope(client.sender, Heartbeat(1)))
    careful = connect(server.address, worker=2)
    careful.states.wait(lambda states: "UNAVAILABLE" in states[-1] if states else False)


METHODS = [
    "/distckpt.rpc.v1.Coordination/Connect",
    "/distckpt.rpc.v1.Operations/SaveNow",
    "/distckpt.rpc.v1.Operations/Status",
    "/distckpt.rpc.v1.Operations/Picture",
    "/grpc.health.v1.Health/Check",
]


def test_every_method_of_the_server_is_tried_without_credentials() -> None:
    named = [f"/{s.full_name}/{m.name}" for each in (pb, operations_pb2) for s in services(each) for m in s.methods]
    assert {*METHODS} == {*named, "/grpc.health.v1.Health/Check"}


def services(module: Any) -> Any:
    return module.DESCRIPTOR.services_by_name.values()


@pytest.fixture
def strangers(keys: Any) -> dict[str, Callable[[str], grpc.Channel]]:
    """Ways to connect without a key of this generation."""
    authority = keys[0].authority
    other = Credentials.generate(1)[1][0]
    options = (("grpc.ssl_target_name_override", SERVER_NAME),)
    nameless = grpc.ssl_channel_credentials(authority)
    foreign = grpc.ssl_channel_credentials(authority, other.key, other.certificate)
    return {
        "plaintext": grpc.insecure_channel,
        "no certificate": lambda address: grpc.secure_channel(address, nameless, options=options),
        "another generation's": lambda address: grpc.secure_channel(address, foreign, options=options),
    }


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stranger", ["plaintext", "no certificate", "another generation's"])
def test_no_call_of_a_stranger_gets_past_the_handshake(serve: Any, strangers: Any, method: str, stranger: str) -> None:
    server = serve()
    with strangers[stranger](server.address) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(method)(b"", timeout=DEADLINE_S)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert not server.messages.items
