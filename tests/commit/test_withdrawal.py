"""A zombie publishes a file while its successor removes the checkpoint: whatever the order, no file is left behind.

Real directories. The system calls of the two take turns: the zombie is held up twice, the heir once, at any two calls
and any one. Every ninth of these orders is tried; with DISTCKPT_ORDERS=all, each.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from crashing.story import nothing_is_synced
from crashing.system import CHANGING, LOOKING, Call, layer

from distckpt.commit.publication import publish, remove
from distckpt.errors import ObjectMissing
from distckpt.model import Checkpoint, FileRecord
from distckpt.storage.posix import PosixStorage

WAIT_S = 30.0
CALLS_MAX = 200
EVERY = 1 if os.environ.get("DISTCKPT_ORDERS") == "all" else 9
NAME = "ckpt-1.index"


@dataclass
class Turns:
    """Lets the threads make one call at a time: `order` says whose the next one is. Who has ended is passed over."""

    order: list[str]
    calls: dict[str, int] = field(default_factory=lambda: {"zombie": 0, "heir": 0})
    ended: set[str] = field(default_factory=set)
    _moved: threading.Condition = field(default_factory=threading.Condition)
    _running: bool = False

    def __call__(self, _: Call, proceed: Any) -> Any:
        me = threading.current_thread().name
        if me not in self.calls:
            return proceed()
        with self._moved:
            assert self._moved.wait_for(lambda: not self._running and self._next() == me, WAIT_S)
            self._running = True
        try:
            return proceed()
        finally:
            with self._moved:
                self.calls[me] += 1
                self.order.pop(0)
                self._running = False
                self._moved.notify_all()

    def _next(self) -> str:
        while self.order[0] in self.ended:
            self.order.pop(0)
        return self.order[0]

    def end(self, name: str) -> None:
        with self._moved:
            self.ended.add(name)
            self._moved.notify_all()


def race(directory: Path, order: list[str]) -> Turns:
    """Both at work on a committed checkpoint that is not visible yet; returns how many calls each made."""
    storage = PosixStorage.create(directory)
    file = storage.stage(1, "index")
    file.write_at(0, b"of the index")
    checkpoint = Checkpoint("ckpt-1", 1, 0.0, 1, (FileRecord(NAME, 12, file.seal()),))
    turns = Turns([*order, *["zombie"] * CALLS_MAX, *["heir"] * CALLS_MAX])

    def work(action: Any) -> None:
        with suppress(ObjectMissing):
            action(PosixStorage(directory), checkpoint)
        turns.end(threading.current_thread().name)

    both = [
        threading.Thread(target=work, args=(action,), name=name, daemon=True)
        for name, action in (("zombie", publish), ("heir", remove))
    ]
    with nothing_is_synced(), layer(directory, turns, CHANGING + LOOKING):
        for each in both:
            each.start()
        for each in both:
            each.join(WAIT_S)
    return turns


@pytest.mark.timeout(120)
def test_nothing_stays_of_what_is_removed_while_a_zombie_publishes_it(in_memory: Path) -> None:
    alone = race(in_memory / "alone", [])
    zombies, heirs = alone.calls["zombie"], race(in_memory / "after", ["heir"] * CALLS_MAX).calls["heir"]
    assert zombies > 5
    assert heirs > 3
    orders = [
        ["zombie"] * first + ["heir"] * second + ["zombie"] * third + ["heir"] * CALLS_MAX
        for first in range(zombies + 1)
        for second in range(heirs + 1)
        for third in range(zombies + 1 - first)
    ]
    left = {}
    for number, order in enumerate(orders[::EVERY]):
        directory = in_memory / str(number)
        turns = race(directory, list(order))
        assert turns.ended == {"zombie", "heir"}
        found = sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())
        if found:
            left[number] = found
    assert not left, f"{len(left)} of {len(orders[::EVERY])} orders: {list(left.items())[:3]}"
