"""Processes that die, and processes that forget to close."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distckpt.rpc import server as server_module
from distckpt.rpc import transport
from distckpt.rpc.rendezvous import Rendezvous, write_rendezvous
from distckpt.storage.posix import PosixStorage

DEADLINE_S = 60.0
REPOSITORY = Path(__file__).parents[2]

AGENT = """
import sys, threading
from distckpt.protocol.messages import Sender
from distckpt.rpc.client import AgentClient
from distckpt.rpc.rendezvous import read_rendezvous
from distckpt.storage.posix import PosixStorage

meeting = read_rendezvous(PosixStorage(sys.argv[1]), sys.argv[2])
connected = threading.Event()
client = AgentClient(
    meeting.address, meeting.workers[1], Sender(meeting.job, meeting.generation, 1, "other process"),
    on_message=lambda _: None, on_connected=connected.set, on_disconnected=lambda _: None,
)
client.start()
assert connected.wait(60)
print("connected", flush=True)
sys.stdin.read()
"""

FORGETFUL = """
import threading
from distckpt.protocol.messages import AgentEnvelope, Heartbeat, Sender
from distckpt.rpc.client import AgentClient
from distckpt.rpc.credentials import Credentials
from distckpt.rpc.server import CoordinatorServer

coordinator, workers = Credentials.generate(1)
heard, connected = threading.Event(), threading.Event()
server = CoordinatorServer(lambda _: heard.set(), lambda *_: None, None, coordinator, "localhost")
sender = Sender("job", 1, 0, "first")
client = AgentClient(
    server.start(60), workers[0], sender,
    on_message=lambda _: None, on_connected=connected.set, on_disconnected=lambda _: None,
)
client.start()
assert connected.wait(60)
client.send(AgentEnvelope(sender, Heartbeat(1)))
assert heard.wait(60)
client.send(AgentEnvelope(sender, Heartbeat(2)))
"""

UNREACHED = """
import socket
from distckpt.protocol.messages import AgentEnvelope, Heartbeat, Sender
from distckpt.rpc.client import AgentClient
from distckpt.rpc.credentials import Insecure

mute = socket.create_server(("127.0.0.1", 0))  # connects, and never says a word
address = "127.0.0.1:%d" % mute.getsockname()[1]
sender = Sender("job", 1, 0, "first")
nothing = lambda *_: None
client = AgentClient(
    address, Insecure(), sender, on_message=nothing, on_connected=nothing, on_disconnected=nothing
)
client.start()
client.send(AgentEnvelope(sender, Heartbeat(1)))
mute.accept()
"""


def python(script: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", script, *arguments]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers ping every 0.2 s instead of every 5, and wait as long for the answer."""
    monkeypatch.setattr(transport, "PING_MS_MIN", 200)
    monkeypatch.setattr(server_module, "keepalive", lambda _: transport.keepalive(0.6))


@pytest.fixture
def agent(serve: Any, keys: Any, tmp_path: Path) -> Iterator[tuple[Any, subprocess.Popen[str]]]:
    """A server here, and an agent in another process that found it through a rendezvous file."""
    server = serve()
    key = write_rendezvous(PosixStorage.create(tmp_path), Rendezvous(server.address, "job", 7, keys[1]))
    command = python(AGENT, str(tmp_path), key)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "connected\n"
            yield server, process
        finally:
            process.kill()


def test_an_agent_that_is_killed_is_noticed(agent: Any) -> None:
    server, process = agent
    os.kill(process.pid, signal.SIGKILL)
    server.disconnects.wait_for((1, "other process"))


def test_an_agent_that_no_longer_answers_though_its_connection_stands_is_noticed(impatient: None, agent: Any) -> None:
    server, process = agent
    os.kill(process.pid, signal.SIGSTOP)
    server.disconnects.wait_for((1, "other process"))


def test_an_agent_whose_process_ends_without_closing_is_noticed(agent: Any) -> None:
    server, process = agent
    process.stdin.close()
    assert process.wait(DEADLINE_S) == 0
    server.disconnects.wait_for((1, "other process"))


@pytest.mark.parametrize("script", [FORGETFUL, UNREACHED], ids=["connected", "never connected"])
def test_a_process_that_forgets_to_close_ends_without_a_word(script: str) -> None:
    ended = subprocess.run(
        python(script), check=False, cwd=REPOSITORY, capture_output=True, text=True, timeout=DEADLINE_S
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
