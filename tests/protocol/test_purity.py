"""The protocol knows no clock, thread, socket, file or TensorFlow, and each of its messages has a handler."""

import ast
from pathlib import Path
from typing import get_args

import distckpt.protocol
from distckpt.protocol import events, messages
from distckpt.protocol.agent import Agent
from distckpt.protocol.coordinator import Coordinator

ALLOWED = {
    "__future__", "collections", "dataclasses", "enum", "functools", "hashlib", "heapq", "math", "statistics", "typing",
    "distckpt.model", "distckpt.errors", "distckpt.protocol",
}  # fmt: skip


def test_the_protocol_imports_nothing_that_could_touch_the_world() -> None:
    for path in Path(distckpt.protocol.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                known = any(name == allowed or name.startswith(f"{allowed}.") for allowed in ALLOWED)
                assert known, f"{path.name} imports {name}"


def test_every_message_and_event_has_a_handler() -> None:
    assert set(Coordinator._EVENTS) == set(get_args(events.CoordinatorEvent))
    assert set(Agent._EVENTS) == set(get_args(events.AgentEvent))
    assert set(Coordinator._MESSAGES) == set(get_args(messages.AgentMessage)) - {messages.Join}
    assert set(Agent._MESSAGES) == set(get_args(messages.CoordinatorMessage))
