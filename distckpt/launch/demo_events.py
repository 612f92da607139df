"""What the demo's workers tell: their lines of JSON, and the checkpoints that come of them. Pure."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from distckpt.launch.process import Stream
from distckpt.model import CHIEF

STDERR_LINES = 60


@dataclass(frozen=True, slots=True)
class Saved:
    """A commit, as the chief's manager reported it (`distckpt.manager.SaveReport`). Times are in seconds."""

    step: int
    bytes: int
    bytes_by_worker: tuple[int, ...]
    blocking_s: float
    commit_s: float


@dataclass(slots=True)
class History:
    """What was told so far. `resumed_at` are the steps that restarts went on from; `accuracy` is None until the end."""

    saved: list[Saved] = field(default_factory=list)
    resumed_at: list[int] = field(default_factory=list)
    accuracy: float | None = None
    stderr: deque[str] = field(default_factory=lambda: deque(maxlen=STDERR_LINES))

    def add(self, worker: int, stream: Stream, line: bytes) -> Mapping[str, Any] | None:
        """Takes a line. Returns the event if it is one; anything else is kept for when something goes wrong."""
        event = _event(line) if stream == "stdout" else None
        if event is None:
            self.stderr.append(f"[worker {worker}] {line.decode(errors='replace')}")
        elif worker == CHIEF:
            self._on_chief(event)
        return event

    def _on_chief(self, event: Mapping[str, Any]) -> None:
        match event:
            case {"event": "saved"}:
                self.saved.append(_saved(event))
            case {"event": "resumed", "step": step}:
                self.resumed_at.append(step)
            case {"event": "done", "accuracy": accuracy}:
                self.accuracy = accuracy


def _event(line: bytes) -> Mapping[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None


def _saved(event: Mapping[str, Any]) -> Saved:
    by_worker = tuple(event["bytes_by_worker"])
    return Saved(event["step"], event["bytes"], by_worker, event["blocking_s"], event["commit_s"])
