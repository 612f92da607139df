"""What is done while it is recorded, and what must be true of whatever a power loss left of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from crashing.chief import Chief, start, values
from distckpt.bundle.names import index_file
from distckpt.bundle.statefile import STATE_FILE, parse_state
from distckpt.bundle.verify import verify
from distckpt.errors import ObjectMissing
from distckpt.storage.posix import PosixStorage

NEXT = 99
Say = Callable[[dict[int, float]], None]


def save_retire_and_restart(directory: Path, say: Say) -> None:
    """Saves until the oldest is retired, starts again, and saves: a step again, and one more that retires two."""
    chief = Life(directory, 2, say)
    for step in (1, 2, 3):
        chief.commit(step, float(step))
    chief = Life(directory, 1, say)
    chief.commit(3, 30.0)
    chief.commit(4, 4.0)


def save_and_link(directory: Path, say: Say) -> None:
    """Saves of which the third links what the second put apart, each retiring the one before."""
    chief = Life(directory, 1, say, linking=True)
    for step in (1, 2, 3):
        chief.commit(step, float(step), workers=1)


class Life:
    """A start on `directory`. `live` are the values by step that its journal says exist."""

    def __init__(self, directory: Path, keep: int, say: Say, *, linking: bool = False) -> None:
        storage = PosixStorage.create(directory)
        self.chief: Chief = start(storage, keep=keep, directory=str(directory), linking=linking)
        self.say = say
        self.live = values(self.chief.storage)
        say(self.live)

    def commit(self, step: int, value: float, workers: int = 2) -> None:
        self.chief.commit(step, value, workers)
        live = {each.step for each in self.chief.journal.state.live}
        self.live = {each: of for each, of in (self.live | {step: value}).items() if each in live}
        self.say(self.live)


@contextmanager
def nothing_is_synced() -> Iterator[None]:
    """Fsync costs nothing in here: what is checked after a power loss is not going to see another."""
    with patch.object(os, "fsync", lambda fd: None):
        yield


def check_before_recovery(storage: PosixStorage, live: dict[int, float], coming: dict[int, float]) -> None:
    """What TensorFlow alone would find: whatever is visible is whole, and so is what the state file names.

    A step that is being replaced may be invisible for a moment.
    """
    for key in storage.keys(""):
        if key.endswith(".index") and "/" not in key:
            assert verify(storage, key.removesuffix(".index")) == [], f"I1: {key} is visible and not whole"
    try:
        state = parse_state(storage.read(STATE_FILE))
    except ObjectMissing:
        assert not live, "the state file is gone"
        return
    replaced = {f"ckpt-{step}" for step in live if coming.get(step) != live[step]}
    if state.model_checkpoint_path not in replaced:
        storage.size(index_file(state.model_checkpoint_path))


def check_recovered(storage: PosixStorage, live: dict[int, float], coming: dict[int, float]) -> None:
    """I2 and I4: what was acknowledged is there, unless what was being done was to retire or replace it."""
    found = values(storage)  # compares every checksum: I1
    for step, value in found.items():
        assert value in (live.get(step), coming.get(step)), f"I1: step {step} holds {value}"
    for step in live.keys() & coming.keys():
        assert step in found, f"I2: step {step} was acknowledged, and is lost"
    assert found or not live, "I4: nothing is left to restore"
    if found:
        named = parse_state(storage.read(STATE_FILE)).model_checkpoint_path
        assert named == f"ckpt-{list(found)[-1]}", f"the state file names {named}"


def check_next_save(directory: Path, chief: Chief) -> None:
    """The next save works, and after it nothing is left of what was lost."""
    chief.commit(NEXT, float(NEXT))
    storage = PosixStorage(directory)
    assert values(storage)[NEXT] == NEXT
    assert parse_state(storage.read(STATE_FILE)).model_checkpoint_path == f"ckpt-{NEXT}"
    check_no_leftovers(storage, chief)


def check_no_leftovers(storage: PosixStorage, chief: Chief) -> None:
    live = chief.journal.state.live
    assert storage.staged() == sorted(file.handle for each in live for file in each.files)
    visible = {key for key in storage.keys("") if not key.startswith(".")}
    expected = {STATE_FILE} | {file.name for each in live for file in each.files}
    assert visible == expected, f"left over: {visible - expected}; not there: {expected - visible}"


@dataclass(frozen=True, slots=True)
class Expected:
    """Values by step: what was acknowledged, and what was being made of it."""

    live: dict[int, float]
    coming: dict[int, float]


def check(directory: Path, before: Expected, after: Expected | None = None, keep: int = 2) -> None:
    """Everything, of the directory that a power loss left. Raises AssertionError, or what the real code raises.

    `before` is what TensorFlow alone must find, `after` what there must be after recovery (None: the same).
    """
    with nothing_is_synced():
        storage = PosixStorage.create(directory)
        check_before_recovery(storage, before.live, before.coming)
        chief = start(storage, keep=keep, directory=str(directory))
        expected = after or before
        check_recovered(storage, expected.live, expected.coming)
        check_next_save(directory, chief)
