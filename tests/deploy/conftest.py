"""Containers as processes. Makes `orchestrators` importable: pytest's importlib mode puts no test folder on a path."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from distckpt.launch.cluster import HOST, free_ports

sys.path.insert(0, str(Path(__file__).parent))

from orchestrators.container import Container, StartContainer


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartContainer]:
    """Starts a container; at the end of the test none is left."""
    started: list[Container] = []

    def start_one(command: Sequence[str], environ: Mapping[str, str]) -> Container:
        started.append(Container(command, environ, tmp_path))
        return started[-1]

    yield start_one
    for each in started:
        each.end()


@pytest.fixture
def port() -> int:
    """A free port, the next of which is free too: two workers of one host take both."""
    for _ in range(100):
        (first,) = free_ports(1)
        with socket.socket() as probe:
            if probe.connect_ex((HOST, first + 1)) != 0:
                return first
    raise AssertionError("no two free ports beside each other")
