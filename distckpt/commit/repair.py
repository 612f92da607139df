"""Recovery by hand: what the next start of a job does first, told file by file, and rehearsed if that is wanted.

What was done is told by comparing what is there before and after, in a rehearsal as in earnest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from distckpt.bundle.statefile import STATE_FILE
from distckpt.commit.rehearsal import Rehearsal
from distckpt.commit.statefile import read_state
from distckpt.commit.takeover import taken_over
from distckpt.errors import ObjectMissing
from distckpt.journal.leases import LEASES
from distckpt.journal.liveness import ALIVE
from distckpt.journal.names import JOURNAL
from distckpt.journal.reading import load
from distckpt.journal.state import JournalState
from distckpt.storage.interface import Storage

Verb = Literal["set aside", "adopt", "keep for good", "publish", "rewrite", "write", "delete", "discard"]

_NOT_TOLD = (JOURNAL, LEASES, ALIVE)
"""The record that a generation began and ended, and what readers do meanwhile."""


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that a recovery does. `name` is a checkpoint's or a file's; `detail` is for people.

    "set aside", "adopt", "keep for good": a checkpoint. "publish": a committed file gets its visible name, or gets it
    back. "write", "rewrite", "delete": a file. "discard": a staged file whose save was never committed, or retired.
    """

    verb: Verb
    name: str
    size_bytes: int = 0
    detail: str = ""


def rehearse(storage: Storage, directory: str) -> tuple[Action, ...]:
    """What `repair` would do now, by the same code; changes nothing. Raises what `repair` raises."""
    return repair(Rehearsal(storage), directory)


def repair(storage: Storage, directory: str) -> tuple[Action, ...]:
    """Finishes what a dead job began and committed, and clears away what it did not commit; empty if it left nothing.

    `directory` is the path as TensorFlow's state file may spell it. Raises as `taken_over` does.
    """
    before = _look(storage)
    with taken_over(storage, directory, "recover"):
        pass
    return tuple(_actions(before, _look(storage)))


@dataclass(frozen=True, slots=True)
class _Sight:
    """`files`: sizes by key; `staged`: by handle; `published`: the visible names that are a checkpoint's own."""

    state: JournalState
    files: Mapping[str, int]
    staged: Mapping[str, int]
    published: frozenset[str]
    state_file: bytes


def _look(storage: Storage) -> _Sight:
    state = load(storage).state
    keys = [key for key in storage.keys("") if not key.startswith(_NOT_TOLD)]
    owned = [file for checkpoint in state.live for file in checkpoint.files if file.handle]
    try:
        state_file = read_state(storage)
    except ObjectMissing:
        state_file = b""
    return _Sight(
        state,
        {key: storage.size(key) for key in keys},
        {handle: storage.staged_size(handle) for handle in storage.staged()},
        frozenset(file.name for file in owned if storage.is_published(file.handle, file.name)),
        state_file,
    )


def _actions(before: _Sight, after: _Sight) -> Iterator[Action]:
    yield from _of_checkpoints(before.state, after.state)
    published = after.published - before.published
    for key in sorted(published):
        yield Action("publish", key, after.files[key])
    for key in sorted(after.files.keys() - before.files.keys() - published):
        yield Action("write", key, after.files[key])
    if before.state_file and after.state_file and before.state_file != after.state_file:
        yield Action("rewrite", STATE_FILE, len(after.state_file))
    for key in sorted(before.files.keys() - after.files.keys()):
        yield Action("delete", key, before.files[key])
    for handle in sorted(before.staged.keys() - after.staged.keys()):
        yield Action("discard", handle, before.staged[handle])


def _of_checkpoints(before: JournalState, after: JournalState) -> Iterator[Action]:
    known = {each.checkpoint.name for each in before.quarantined}
    for quarantined in after.quarantined:
        if quarantined.checkpoint.name not in known:
            yield Action("set aside", quarantined.checkpoint.name, detail=quarantined.reason)
    earlier = {each.name: each for each in before.live}
    for checkpoint in after.live:
        if checkpoint.name not in earlier:
            yield Action("adopt", checkpoint.name, checkpoint.size_bytes, "written by TensorFlow without distckpt")
        elif checkpoint.preserved and not earlier[checkpoint.name].preserved:
            yield Action("keep for good", checkpoint.name)
