"""Real servers and clients on loopback. What happens is recorded and waited for; nothing sleeps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from distckpt.protocol.messages import Sender
from distckpt.report import JobStatus
from distckpt.rpc.client import AgentClient
from distckpt.rpc.credentials import Credentials, Security
from distckpt.rpc.server import CoordinatorServer
from distckpt.rpc.v1 import coordination_pb2_grpc as pb_grpc

DEADLINE_S = 60.0


class Record:
    """A list that threads append to, and that can be waited for."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._changed = threading.Condition()

    def add(self, *item: Any) -> None:
        with self._changed:
            self.items.append(item[0] if len(item) == 1 else item)
            self._changed.notify_all()

    def wait(self, enough: Callable[[list[Any]], Any]) -> list[Any]:
        with self._changed:
            assert self._changed.wait_for(lambda: enough(self.items), DEADLINE_S), f"only {self.items[-5:]} came"
            return list(self.items)

    def wait_for(self, item: Any) -> None:
        self.wait(lambda items: item in items)


class Operated:
    """What a tool is told: `now`, and how it stands."""

    now = JobStatus("job", 7, 4, ())
    stands: bytes | None = None

    def status(self) -> JobStatus:
        return self.now

    def picture(self) -> bytes | None:
        return self.stands


class Server:
    """A running CoordinatorServer and what it reported."""

    def __init__(self, credentials: Security, port: int, **told: Any) -> None:
        self.messages = Record()
        self.disconnects = Record()
        self.operated = Operated()
        self.server = CoordinatorServer(
            self.messages.add, self.disconnects.add, self.operated, credentials, "localhost", port, **told
        )
        self.address = self.server.start(DEADLINE_S)

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])


class Client:
    """A running AgentClient and what it reported; `states` holds "" for connected, else the reason."""

    def __init__(self, address: str, credentials: Security, sender: Sender) -> None:
        self.sender = sender
        self.messages = Record()
        self.states = Record()
        self.client = AgentClient(
            address,
            credentials,
            sender,
            on_message=self.messages.add,
            on_connected=lambda: self.states.add(""),
            on_disconnected=self.states.add,
        )
        self.client.start()


@pytest.fixture(scope="session")
def keys() -> tuple[Credentials, tuple[Credentials, ...]]:
    """One generation's credentials for a world of 4."""
    return Credentials.generate(4)


@pytest.fixture
def serve(keys: Any) -> Iterator[Callable[..., Server]]:
    """Starts servers, and stops them after the test."""
    started: list[Server] = []

    def start(credentials: Security | None = None, port: int = 0, **told: Any) -> Server:
        started.append(Server(keys[0] if credentials is None else credentials, port, **told))
        return started[-1]

    yield start
    for each in started:
        each.server.stop(0.0)


@pytest.fixture
def connect(keys: Any) -> Iterator[Callable[..., Client]]:
    """Starts clients, and closes them after the test."""
    started: list[Client] = []

    def start(address: str, worker: int = 1, credentials: Security | None = None, incarnation: str = "first") -> Client:
        shown = keys[1][worker] if credentials is None else credentials
        started.append(Client(address, shown, Sender("job", 7, worker, incarnation)))
        return started[-1]

    yield start
    for each in started:
        each.client.close(0.0)


@pytest.fixture
def channel(keys: Any) -> Iterator[Callable[..., grpc.Channel]]:
    """Bare gRPC channels, for what AgentClient would never do."""
    channels: list[grpc.Channel] = []

    def open_channel(address: str, worker: int = 1, options: tuple[tuple[str, Any], ...] = ()) -> grpc.Channel:
        shown = keys[1][worker]
        named = (*options, ("grpc.ssl_target_name_override", shown.server_name))
        channels.append(grpc.secure_channel(address, shown.for_client(), options=named))
        return channels[-1]

    yield open_channel
    for each in channels:
        each.close()


@pytest.fixture
def stub(channel: Any) -> Callable[..., Any]:
    """The stub of such a channel."""
    return lambda *told, **more: pb_grpc.CoordinationStub(channel(*told, **more))
