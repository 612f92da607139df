"""Agents and the coordinator hear each other, and learn when they no longer do."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import grpc
import pytest

from distckpt.errors import ConfigurationError
from distckpt.model import Cause, Entry, Shard
from distckpt.protocol.deadlines import Deadlines
from distckpt.protocol.messages import (
    Aborted,
    AgentEnvelope,
    Alive,
    Announce,
    CoordinatorEnvelope,
    Heartbeat,
    Leave,
    Sender,
    Written,
)
from distckpt.protocol.staged import staged_name
from distckpt.rpc import client as client_module
from distckpt.rpc import outbox, servicer, streams, transport, values
from distckpt.rpc.checks import NAME_CHARS_MAX, MalformedMessage
from distckpt.rpc.client import AgentClient, open_channel
from distckpt.rpc.credentials import Credentials, Insecure
from distckpt.rpc.server import CoordinatorServer
from distckpt.rpc.streams import End
from distckpt.rpc.v1 import coordination_pb2 as pb

DEADLINE_S = 60.0
ME = Sender("job", 7, 1, "first")
OPENING = pb.AgentEnvelope(sender=values.sender_to(ME))
PINGS = ("grpc.keepalive_time_ms", "grpc.keepalive_timeout_ms", "grpc.http2.ping_timeout_ms")


def test_what_is_said_is_heard_in_both_directions(serve: Any, connect: Any) -> None:
    server = serve()
    client = connect(server.address)
    client.states.wait_for("")
    entries = tuple(Entry(f"tensor-{i}", 1, (8,), 32 * i, 32, i) for i in range(1_000))
    handle = f"7/{staged_name(client.sender, 1, 1)}"
    said = AgentEnvelope(client.sender, Written(1, 1, Shard(1, handle, 32_000, entries)))
    client.client.send(said)
    server.messages.wait_for(said)
    answer = CoordinatorEnvelope(client.sender, Aborted(1, 1, Cause("Fenced", "text", 2)))
    server.server.send(answer)
    client.messages.wait_for(answer)


def test_each_incarnation_hears_only_what_is_meant_for_it(serve: Any, connect: Any) -> None:
    server = serve()
    clients = [connect(server.address, worker=1), connect(server.address, 1, incarnation="second")]
    for client in (*clients, connect(server.address, worker=2)):
        client.states.wait_for("")
    for client in clients:
        server.server.send(CoordinatorEnvelope(client.sender, Alive()))
    for client in clients:
        client.messages.wait_for(CoordinatorEnvelope(client.sender, Alive()))
        assert len(client.messages.items) == 1


def test_a_message_to_one_who_does_not_listen_is_dropped_and_harms_nobody(serve: Any, connect: Any) -> None:
    server = serve()
    client = connect(server.address)
    client.states.wait_for("")
    server.server.send(CoordinatorEnvelope(Sender("job", 7, 3, "nobody"), Alive()))
    server.server.send(CoordinatorEnvelope(client.sender, Alive()))
    client.messages.wait_for(CoordinatorEnvelope(client.sender, Alive()))


def test_a_hundred_agents_in_one_process_are_all_heard_and_answered(serve: Any, connect: Any) -> None:
    server, workers = Credentials.generate(100)
    running = serve(server)
    clients = [connect(running.address, index, credentials) for index, credentials in enumerate(workers)]
    for client in clients:
        client.states.wait_for("")
        client.client.send(AgentEnvelope(client.sender, Heartbeat(client.sender.worker)))
    heard = running.messages.wait(lambda items: len(items) >= 100)
    assert {envelope.message.step for envelope in heard} == set(range(100))
    for client in clients:
        running.server.send(CoordinatorEnvelope(client.sender, Alive()))
    for client in clients:
        client.messages.wait_for(CoordinatorEnvelope(client.sender, Alive()))
    assert sum(thread.name == "distckpt-server" for thread in threading.enumerate()) == 1


def test_a_connection_survives_the_pings_of_a_busy_agent(serve: Any) -> None:
    ping = (8).to_bytes(3, "big") + bytes([6, 0]) + bytes(4) + b"8 bytes."
    settings = (0).to_bytes(3, "big") + bytes([4, 0]) + bytes(4)
    with socket.create_connection(("127.0.0.1", serve(Insecure()).port), DEADLINE_S) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings)
        stream = connection.makefile("rb")
        for _ in range(20):
            connection.sendall(ping)
            kinds = iter(lambda: http2_frame(stream), ("ping", "answer"))
            assert ("goaway", "") not in kinds


def http2_frame(stream: Any) -> tuple[str, str]:
    """The kind of the next frame (RFC 9113, section 4.1)."""
    header = stream.read(9)
    stream.read(int.from_bytes(header[:3], "big"))
    kind = {6: "ping", 7: "goaway"}.get(header[3], "other")
    return kind, "answer" if kind == "ping" and header[4] else ""


def test_the_last_words_before_closing_arrive_and_closing_is_seen(serve: Any, connect: Any) -> None:
    server = serve()
    client = connect(server.address)
    client.states.wait_for("")
    client.client.send(AgentEnvelope(client.sender, Leave()))
    client.client.close(DEADLINE_S)
    server.messages.wait_for(AgentEnvelope(client.sender, Leave()))
    server.disconnects.wait_for((1, "first"))
    client.client.send(AgentEnvelope(client.sender, Heartbeat(1)))
    assert client.client.dropped == 1
    client.client.close()


def test_what_the_server_said_before_it_stops_still_arrives(serve: Any, connect: Any) -> None:
    server = serve()
    client = connect(server.address)
    client.states.wait_for("")
    said = [CoordinatorEnvelope(client.sender, Aborted(n, 1, Cause("Fenced", ""))) for n in range(500)]
    for envelope in said:
        server.server.send(envelope)
    server.server.stop(DEADLINE_S)
    client.messages.wait(lambda items: items == said)
    assert not server.disconnects.items
    server.server.stop(0.0)
    server.server.send(said[0])


def test_an_agent_finds_the_coordinator_again_after_a_restart(serve: Any, connect: Any) -> None:
    first = serve()
    client = connect(first.address)
    client.states.wait_for("")
    first.server.stop(0.0)
    client.states.wait(lambda states: len(states) >= 2)
    assert "UNAVAILABLE" in client.states.items[1]
    client.client.send(AgentEnvelope(client.sender, Heartbeat(1)))
    second = serve(port=first.port)
    client.states.wait(lambda states: states[-1] == "")
    client.client.send(AgentEnvelope(client.sender, Heartbeat(2)))
    second.messages.wait_for(AgentEnvelope(client.sender, Heartbeat(2)))


def test_an_agent_that_comes_before_the_coordinator_says_so_and_goes_on_trying(serve: Any, connect: Any) -> None:
    first = serve()
    first.server.stop(0.0)
    client = connect(first.address)
    client.states.wait(lambda states: any("UNAVAILABLE" in state for state in states))
    serve(port=first.port)
    client.states.wait_for("")


def test_a_port_that_is_taken_is_refused(serve: Any) -> None:
    with pytest.raises(ConfigurationError, match="cannot listen on"):
        serve(port=serve().port)


def test_a_stream_is_renewed_before_its_deadline_and_nothing_is_lost_by_it(
    serve: Any, connect: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(client_module, "_RENEWAL", (1e-5, 1e-4))
    server = serve()
    opened: list[Any] = []
    open_ = server.server._servicer._streams.open
    monkeypatch.setattr(server.server._servicer._streams, "open", lambda stream: (opened.append(stream), open_(stream)))
    client = connect(server.address)
    said = [AgentEnvelope(client.sender, Heartbeat(0))]
    answered: list[CoordinatorEnvelope] = []
    while len(opened) < 10:  # nobody repeats anything here: what is lost is waited for in vain
        said.append(AgentEnvelope(client.sender, Heartbeat(len(said))))
        client.client.send(said[-1])
        server.messages.wait_for(said[-1])
        answered.append(CoordinatorEnvelope(client.sender, Aborted(len(said), 1, Cause("Fenced", ""))))
        server.server.send(answered[-1])
        client.messages.wait_for(answered[-1])
    assert server.messages.items == said[1:]
    assert client.messages.items == answered
    assert client.client.dropped == 0
    assert client.states.items == [""]
    assert not server.disconnects.items


def standing(stream: Any) -> Any:
    stream.initial_metadata()
    return stream


def test_a_second_stream_of_an_incarnation_replaces_the_first(
    serve: Any, stub: Any, open_stream: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(streams, "REPLACED_S", 0.05)
    server = serve()
    bare = stub(server.address)
    first = standing(open_stream(bare, OPENING))
    second = standing(open_stream(bare, OPENING))
    assert list(first) == []
    assert first.code() is grpc.StatusCode.OK
    assert not server.disconnects.items
    server.server.send(CoordinatorEnvelope(ME, Alive()))
    assert next(second).WhichOneof("message") == "alive"
    second.cancel()
    server.disconnects.wait_for((1, "first"))


def test_what_waits_in_a_stream_that_is_replaced_goes_to_the_next(
    serve: Any, stub: Any, open_stream: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(streams, "REPLACED_S", 0.05)
    server = serve()
    bare = stub(server.address)
    first = standing(open_stream(bare, OPENING))
    for number in range(200):  # more than goes to who does not read
        server.server.send(CoordinatorEnvelope(ME, Aborted(number, 1, Cause("Fenced", "x" * 60_000))))
    second = standing(open_stream(bare, OPENING))
    heard = [message.aborted.round for message in first]
    assert 0 < len(heard) < 200
    heard += [next(second).aborted.round for _ in range(200 - len(heard))]
    assert heard == list(range(200))


def test_who_has_said_everything_is_told_that_it_was_received(serve: Any, stub: Any) -> None:
    server = serve()
    beats = [pb.AgentEnvelope(sender=OPENING.sender, heartbeat=pb.Heartbeat(step=step)) for step in range(500)]
    call = stub(server.address).Connect(iter([OPENING, *beats]), timeout=DEADLINE_S)
    assert list(call) == []
    assert call.code() is grpc.StatusCode.OK
    assert [envelope.message.step for envelope in server.messages.items] == list(range(500))
    assert server.disconnects.items == [(1, "first")]


def test_only_the_servers_own_end_of_a_stream_is_no_cancellation() -> None:
    """Whoever else cancels a task is not to find that it has ended well."""

    class Call:
        def __init__(self) -> None:
            self.began = asyncio.Event()
            self.said = iter([OPENING])

        def auth_context(self) -> dict[str, list[bytes]]:
            return {}

        def time_remaining(self) -> float:
            return DEADLINE_S

        async def send_initial_metadata(self, _metadata: object) -> None: ...

        async def write(self, _message: bytes) -> None: ...

        async def read(self) -> object:
            for said in self.said:
                return said
            self.began.set()
            return await asyncio.get_running_loop().create_future()

    async def is_cancelled_by(end: str) -> bool:
        serving, call = servicer.Servicer(lambda _: None, lambda _worker, _incarnation: None), Call()
        connected = asyncio.create_task(serving.Connect(None, call))  # type: ignore[arg-type]  # all that is used of it
        await call.began.wait()
        if end == "cancelled":
            connected.cancel()
        else:
            (stream,) = serving._streams
            stream.finish(End.STOPPED)
        await asyncio.wait([connected])
        return connected.cancelled()

    assert asyncio.run(is_cancelled_by("cancelled"))
    assert not asyncio.run(is_cancelled_by("stopped"))


def test_a_message_that_is_refused_is_said_once_and_the_agent_comes_back(serve: Any, connect: Any, caplog: Any) -> None:
    server = serve()
    client = connect(server.address)
    for times in (1, 2):
        client.states.wait(lambda states, times=times: states.count("") == times)
        client.client.send(AgentEnvelope(client.sender, Announce(1, 5, "x" * (NAME_CHARS_MAX + 1), "digest", 0)))
    fault = f"announce.name has {NAME_CHARS_MAX + 1} characters: at most {NAME_CHARS_MAX} were expected"
    client.states.wait(lambda states: states == [*["", f"INVALID_ARGUMENT: {fault}"] * 2, ""])
    client.client.send(AgentEnvelope(client.sender, Heartbeat(1)))
    server.messages.wait_for(AgentEnvelope(client.sender, Heartbeat(1)))
    assert len(server.messages.items) == 1
    assert caplog.text.count(f"the coordinator refused a message: {fault}") == 1
    assert len([each for each in caplog.messages if each.startswith("refused a message of") and fault in each]) == 1


@pytest.mark.parametrize("grace_s", [0.0, DEADLINE_S])
def test_no_thread_of_a_stream_outlives_its_client(serve: Any, connect: Any, grace_s: float) -> None:
    client = connect(serve().address)
    client.states.wait_for("")
    thread = client.client._streams[0].requests._thread
    assert thread.is_alive()
    client.client.close(grace_s)
    assert not thread.is_alive()


def test_a_reader_that_does_not_read_is_cut_off_while_others_live(
    serve: Any, stub: Any, open_stream: Any, connect: Any
) -> None:
    server = serve()
    slow = Sender("job", 7, 1, "slow")
    stalled = open_stream(stub(server.address), pb.AgentEnvelope(sender=values.sender_to(slow)))
    stalled.initial_metadata()
    lively = connect(server.address, worker=2)
    lively.states.wait_for("")
    bulk = CoordinatorEnvelope(slow, Aborted(1, 1, Cause("Fenced", "x" * 60_000)))
    for _ in range(2_000):
        server.server.send(bulk)
    server.disconnects.wait_for((1, "slow"))
    assert len(server.disconnects.items) == 1
    server.server.send(CoordinatorEnvelope(lively.sender, Alive()))
    lively.messages.wait_for(CoordinatorEnvelope(lively.sender, Alive()))
    with pytest.raises(grpc.RpcError) as caught:
        list(stalled)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_an_agent_never_keeps_more_than_its_bound(connect: Any, serve: Any) -> None:
    gone = serve()
    gone.server.stop(0.0)
    client = connect(gone.address)
    for step in range(3 * outbox.UNSENT_MAX):
        client.client.send(AgentEnvelope(client.sender, Heartbeat(step)))
        assert len(client.client._outbox._unsent) <= outbox.UNSENT_MAX
    client.client.close(0.0)
    assert client.client.dropped == 3 * outbox.UNSENT_MAX


def test_an_agent_never_keeps_more_bytes_than_its_bound(connect: Any, serve: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(outbox, "UNSENT_BYTES_MAX", 200_000)
    server = serve()
    client = connect(server.address)
    client.states.wait_for("")
    large = [AgentEnvelope(client.sender, Leave(Cause("Fenced", f"{n}" * 60_000))) for n in range(8)]
    with Held(server):  # it takes what fits into the connection's windows
        for envelope in (*large, *large):
            client.client.send(envelope)
            assert client.client._outbox._bytes <= 200_000
    client.client.close(DEADLINE_S)
    assert len(server.messages.items) + client.client.dropped == 16
    assert client.client.dropped > 0


def test_a_message_that_cannot_be_sent_is_refused_where_it_is_said(connect: Any, serve: Any) -> None:
    server = serve()
    client = connect(server.address)
    with pytest.raises(MalformedMessage):
        client.client.send(AgentEnvelope(client.sender, Heartbeat(2**70)))
    with pytest.raises(MalformedMessage):
        server.server.send(CoordinatorEnvelope(client.sender, Aborted(2**70, 1, Cause("Fenced", ""))))


class Held:
    """Keeps a server's event loop busy while it is open."""

    def __init__(self, server: Any) -> None:
        self._begun, self._over = threading.Event(), threading.Event()
        server.server._call(lambda: (self._begun.set(), self._over.wait(DEADLINE_S)))

    def __enter__(self) -> None:
        assert self._begun.wait(DEADLINE_S)

    def __exit__(self, *_: object) -> None:
        self._over.set()


def test_no_call_is_lost_because_many_wait_for_a_busy_server(serve: Any, channel: Any) -> None:
    server = serve()
    status = channel(server.address).unary_unary("/distckpt.rpc.v1.Operations/Status")
    cut_short = threading.Event()
    with Held(server):
        calls = [status.future(b"", timeout=DEADLINE_S) for _ in range(3_500)]  # by default it is cut at 3,000
        for call in calls:
            call.add_done_callback(lambda call: call.code() is grpc.StatusCode.OK or cut_short.set())
        assert not cut_short.wait(1.0)  # so long they have to be cancelled in
    for call in calls:
        call.result()


def test_what_is_said_to_many_at_once_wakes_the_server_once(serve: Any, connect: Any, monkeypatch: Any) -> None:
    server = serve()
    client = connect(server.address)
    client.states.wait_for("")
    said = [CoordinatorEnvelope(client.sender, Aborted(n, 1, Cause("Fenced", ""))) for n in range(100)]
    woken: list[Any] = []
    call = server.server._call
    with Held(server):
        monkeypatch.setattr(server.server, "_call", lambda action: (woken.append(action), call(action)))
        for envelope in said:
            server.server.send(envelope)
    client.messages.wait(lambda items: items == said)
    server.server.send(said[0])
    client.messages.wait(lambda items: len(items) == 101)
    assert len(woken) == 2


def test_what_is_said_before_the_server_has_begun_keeps_nothing_back(
    serve: Any, connect: Any, monkeypatch: Any
) -> None:
    start = CoordinatorServer.start

    def late(server: CoordinatorServer, timeout_s: float) -> str:
        server.send(CoordinatorEnvelope(Sender("job", 7, 1, "nobody"), Alive()))
        return start(server, timeout_s)

    monkeypatch.setattr(CoordinatorServer, "start", late)
    server = serve()
    client = connect(server.address)
    client.states.wait_for("")
    server.server.send(CoordinatorEnvelope(client.sender, Alive()))
    client.messages.wait_for(CoordinatorEnvelope(client.sender, Alive()))


def test_pings_are_as_patient_as_the_protocol() -> None:
    few, many = (Deadlines().for_world(size).silence_s for size in (2, 4_096))
    assert dict(transport.keepalive(few)) == dict.fromkeys(PINGS, 5_000)
    patience = dict(transport.keepalive(many))
    assert patience["grpc.keepalive_time_ms"] + patience["grpc.keepalive_timeout_ms"] < 1_000 * many
    assert min(patience.values()) > 20_000
    assert min(dict(transport.keepalive(0.1)).values()) == 5_000  # a short silence is no reason for a flood


def test_both_ends_of_a_connection_in_a_large_world_ping_rarely(serve: Any, monkeypatch: Any) -> None:
    server = serve(world_size=4_096, silence_s=90.0)
    assert set(transport.keepalive(90.0)) <= set(server.server._options())
    opened: list[dict[str, Any]] = []
    monkeypatch.setattr(grpc, "insecure_channel", lambda _, options: opened.append(dict(options)))
    open_channel("nowhere:1", Insecure(), 90.0)
    assert opened[0]["grpc.keepalive_time_ms"] == 30_000


def test_a_callback_that_fails_does_not_end_the_conversation(serve: Any, keys: Any, caplog: Any) -> None:
    server = serve()
    sender = ME
    heard: list[CoordinatorEnvelope] = []
    twice = threading.Event()

    def fail(envelope: CoordinatorEnvelope) -> None:
        heard.append(envelope)
        if len(heard) == 2:
            twice.set()
        raise RuntimeError("a bug of the caller")

    connected = threading.Event()
    client = AgentClient(
        server.address, keys[1][1], sender, on_message=fail, on_connected=connected.set, on_disconnected=lambda _: None
    )
    client.start()
    assert connected.wait(DEADLINE_S)
    server.server.send(CoordinatorEnvelope(sender, Alive()))
    server.server.send(CoordinatorEnvelope(sender, Alive()))
    assert twice.wait(DEADLINE_S)
    client.close()
    assert "a bug of the caller" in caplog.text
