"""A large message goes in fragments: heartbeats pass between them, and nothing that is put together is trusted."""

from __future__ import annotations

from collections import deque
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distckpt.model import Entry, Shard
from distckpt.protocol.messages import AgentEnvelope, Announce, Heartbeat, Sender, Written
from distckpt.protocol.staged import staged_name
from distckpt.rpc import client as client_module
from distckpt.rpc import convert, fragments, values
from distckpt.rpc.checks import MalformedMessage
from distckpt.rpc.client import AgentClient
from distckpt.rpc.fragments import Assembly, cut
from distckpt.rpc.v1 import coordination_pb2 as pb

DEADLINE_S = 60.0
ME = Sender("job", 7, 1, "first")
OPENING = pb.AgentEnvelope(sender=values.sender_to(ME))


def large(round_: int, tensors: int = 30_000) -> AgentEnvelope:
    """Of some eight fragments."""
    entries = tuple(Entry(f"layer-{i}/.ATTRIBUTES/VARIABLE_VALUE", 1, (8,), 32 * i, 32, i) for i in range(tensors))
    handle = f"7/{staged_name(ME, round_, 1)}"
    return AgentEnvelope(ME, Written(round_, 1, Shard(1, handle, 32 * tensors, entries)))


def pieces(whole: bytes, *lengths: int) -> list[pb.AgentEnvelope]:
    """`whole` in fragments of these lengths, and one that holds the rest."""
    found = []
    for length in lengths:
        found.append(pb.AgentEnvelope(fragment=pb.Fragment(data=whole[:length])))
        whole = whole[length:]
    return [*found, pb.AgentEnvelope(fragment=pb.Fragment(data=whole, last=True))]


@given(st.integers(0, 3 * 64))
def test_what_is_cut_is_whole_again(size: int) -> None:
    message = pb.AgentEnvelope(sender=OPENING.sender, announce=pb.Announce(name="x" * size))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fragments, "FRAGMENT_BYTES", 64)
        parts = cut(message)
    assert len(parts) == -(-message.ByteSize() // 64)
    assert all(len(part.fragment.data) <= 64 for part in parts)
    assembly = Assembly()
    assert [assembly.add(part) for part in parts] == [*[None] * (len(parts) - 1), message]


def test_a_small_message_is_as_it_was() -> None:
    assert cut(OPENING) == deque([OPENING])


def test_a_heartbeat_does_not_wait_behind_a_large_message(serve: Any, keys: Any) -> None:
    server = serve()
    client = AgentClient(
        server.address,
        keys[1][ME.worker],
        ME,
        on_message=lambda _: None,
        on_connected=lambda: None,
        on_disconnected=lambda _: None,
    )
    announced, alive = AgentEnvelope(ME, Announce(1, 1, "ckpt-1", "digest", 0)), AgentEnvelope(ME, Heartbeat(1))
    said = [large(1), announced, large(2), alive]
    for envelope in said:  # before there is a stream: it finds all of them
        client.send(envelope)
    client.start()
    try:
        heard = server.messages.wait(lambda items: len(items) >= len(said))
    finally:
        client.close(DEADLINE_S)
    assert heard == [alive, large(1), announced, large(2)], "and nothing else passes anything"
    assert client.dropped == 0


def test_a_large_message_is_whole_though_its_stream_is_renewed(serve: Any, connect: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(client_module, "_RENEWAL", (1e-5, 1e-4))
    server = serve()
    client = connect(server.address)
    said = [large(round_) for round_ in range(1, 11)]
    for envelope in said:
        client.client.send(envelope)
        server.messages.wait_for(envelope)
    assert server.messages.items == said
    assert client.client.dropped == 0


def test_of_a_message_whose_stream_broke_nothing_comes_later(serve: Any, stub: Any) -> None:
    server = serve()
    first, *_ = cut_of(large(1))
    call = stub(server.address).Connect(iter([OPENING, first]), timeout=DEADLINE_S)
    assert list(call) == []
    server.disconnects.wait_for((ME.worker, ME.incarnation))
    again = stub(server.address).Connect(iter([OPENING, *cut_of(large(2))]), timeout=DEADLINE_S)
    assert list(again) == []
    assert server.messages.items == [large(2)]


def cut_of(envelope: AgentEnvelope) -> deque[pb.AgentEnvelope]:
    return cut(convert.agent_to_proto(envelope))


def beat(sender: Sender) -> bytes:
    return pb.AgentEnvelope(sender=values.sender_to(sender), heartbeat=pb.Heartbeat(step=1)).SerializeToString()


HOSTILE: dict[str, tuple[list[pb.AgentEnvelope], grpc.StatusCode, str]] = {
    "bytes that are no message": (
        pieces(b"\xff" * 9, 4),
        grpc.StatusCode.INVALID_ARGUMENT,
        "the fragments of a message are no AgentEnvelope",
    ),
    "nothing at all": (
        pieces(b""),
        grpc.StatusCode.INVALID_ARGUMENT,
        "the envelope holds no message that this version knows",
    ),
    "a fragment put together from fragments": (
        pieces(pieces(beat(ME))[0].SerializeToString(), 3),
        grpc.StatusCode.INVALID_ARGUMENT,
        "the envelope holds no message that this version knows",
    ),
    "more than a message may have": (
        [pb.AgentEnvelope(fragment=pb.Fragment(data=bytes(1_000)))] * 5,
        grpc.StatusCode.INVALID_ARGUMENT,
        "the fragments of a message have more than 4000 bytes",
    ),
    "someone else's message": (
        pieces(beat(Sender("job", 7, 2, "second")), 5),
        grpc.StatusCode.PERMISSION_DENIED,
        "cannot speak for",
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_put_together_is_looked_at_as_any_other_message(
    what: str, serve: Any, stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fragments, "MESSAGE_BYTES_MAX", 4_000)
    said, code, told = HOSTILE[what]
    server = serve()
    with pytest.raises(grpc.RpcError) as caught:
        next(stub(server.address).Connect(iter([OPENING, *said]), timeout=DEADLINE_S))
    assert caught.value.code() is code
    assert told in caught.value.details()
    assert not server.messages.items


def test_fragments_that_are_empty_or_many_are_as_good_as_others(serve: Any, stub: Any) -> None:
    server = serve()
    said = pieces(beat(ME), *[0, 1] * 10)
    assert list(stub(server.address).Connect(iter([OPENING, *said]), timeout=DEADLINE_S)) == []
    assert server.messages.items == [AgentEnvelope(ME, Heartbeat(1))]


def test_a_message_that_is_too_large_is_refused_before_more_of_it_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fragments, "MESSAGE_BYTES_MAX", 10)
    assembly = Assembly()
    assert assembly.add(pieces(bytes(11), 10)[0]) is None
    with pytest.raises(MalformedMessage, match="more than 10 bytes"):
        assembly.add(pieces(b"x")[0])
