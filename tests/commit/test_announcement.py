"""A commit is announced when all that is visible is right, and before the space of what it retires is freed."""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np

from distckpt.bundle.index import encode_index
from distckpt.bundle.payload import Payload
from distckpt.bundle.statefile import STATE_FILE, CheckpointState, format_state, parse_state
from distckpt.bundle.writer import write_share
from distckpt.errors import StorageError
from distckpt.storage.memory import MemoryStorage


def visible(storage: MemoryStorage) -> set[str]:
    return {key.partition(".")[0] for key in storage.keys("") if not key.startswith((".", STATE_FILE))}


def test_when_a_commit_is_announced_the_retired_names_are_gone_and_their_space_is_freed_later(new_chief: Any) -> None:
    storage = MemoryStorage()
    chief = new_chief(storage, keep=1)
    chief.commit(1, 1.0)
    old = set(storage.staged())
    seen: list[tuple[Any, ...]] = []

    def announced(done: Any) -> None:
        state = parse_state(storage.read(STATE_FILE)).model_checkpoint_path
        seen.append((done[0].name, done[1], visible(storage), state, old <= set(storage.staged())))

    chief.commit(2, 2.0, announce=announced)
    assert seen == [("ckpt-2", ("ckpt-1",), {"ckpt-2"}, "ckpt-2", True)]
    assert not old & set(storage.staged())


def test_what_was_announced_stands_wherever_the_chief_dies_after_it(
    faulty: Any, new_chief: Any, values_in: Any
) -> None:
    died_after = 0
    for number in count():
        storage = MemoryStorage()
        chief = new_chief(storage, keep=1)
        chief.commit(1, 1.0)
        broken = faulty.FaultyStorage(storage, after=faulty.at(number, faulty.Crash()))
        chief.storage = chief.committer.storage = chief.journal._storage = broken
        announced: list[Any] = []
        try:
            chief.commit(2, 2.0, announce=announced.append)
        except faulty.Crash:
            died_after += len(announced)
        else:
            break
        heir = new_chief(storage, keep=1)
        assert not announced or values_in(storage) == {2: 2.0}
        assert storage.staged() == sorted(file.handle for each in heir.journal.state.live for file in each.files)
    assert died_after > 3, "each of the retired files is a moment to die at"


def test_a_failure_after_the_announcement_is_no_failure_of_the_commit(
    faulty: Any, new_chief: Any, values_in: Any
) -> None:
    storage = MemoryStorage()
    chief = new_chief(storage, keep=1)
    chief.commit(1, 1.0)
    broken = faulty.FaultyStorage(storage)
    chief.storage = chief.committer.storage = chief.journal._storage = broken

    def announced(_: Any) -> None:
        broken.before = faulty.at(0, StorageError("the disk hiccups"))

    assert chief.commit(2, 2.0, announce=announced) == ("ckpt-1",)
    chief.commit(3, 3.0)
    assert values_in(storage) == {3: 3.0}
    assert storage.staged() == sorted(file.handle for each in chief.journal.state.live for file in each.files)


def test_a_step_that_replaces_tensorflows_own_stays_visible_from_its_announcement_on(
    faulty: Any, new_chief: Any
) -> None:
    storage = MemoryStorage()
    data = np.full(10, 1.0, np.float32).view(np.uint8)
    file = storage.stage(0, "tensorflows")
    entries, _ = write_share([Payload("tensor-0", 1, (10,), data)], file, threads=1)
    storage.publish(file.seal(), "ckpt-1.data-00000-of-00001")
    storage.put("ckpt-1.index", encode_index([entries]))
    storage.put(STATE_FILE, format_state(CheckpointState("ckpt-1", ("ckpt-1",), (10.0,), 0.5)))
    chief = new_chief(storage, keep=2)
    announced: list[Any] = []
    missing: list[str] = []

    def look(operation: str, key: str) -> None:
        if announced and not {file.name for file in announced[0][0].files} <= set(storage.keys("")):
            missing.append(f"{operation} {key}")

    chief.storage = chief.committer.storage = chief.journal._storage = faulty.FaultyStorage(storage, after=look)
    chief.commit(1, 10.0, announce=announced.append)
    assert missing == []
    assert "ckpt-1.data-00000-of-00001" not in storage.keys(""), "what only TensorFlow's had is gone"
