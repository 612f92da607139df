"""Two chiefs start on one directory at once, and workers of an older generation go on writing.

Real directories, one thread for each chief, system calls in whatever order the machine makes them. DISTCKPT_DUELS=n
starts n pairs.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from crashing.chief import Chief, start, values
from crashing.story import check_no_leftovers, nothing_is_synced

from distckpt.errors import DistckptError, StorageError
from distckpt.journal.log import Journal
from distckpt.storage.posix import PosixStorage

DUELS = int(os.environ.get("DISTCKPT_DUELS", "50"))
STEPS = (1, 2, 3)
WAIT_S = 60


class Duellist:
    """A chief in a thread: it starts with the other, and saves the same steps until it is fenced."""

    def __init__(self, directory: Path, together: threading.Barrier) -> None:
        self.generation = 0
        self.acknowledged: list[int] = []
        self.ended_by = ""
        self._directory = directory
        self._together = together
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        storage = PosixStorage.create(self._directory)
        self._together.wait(WAIT_S)
        try:
            chief = start(storage, keep=2, directory=str(self._directory))
            self.generation = chief.journal.state.generation
            for step in STEPS:
                chief.commit(step, value_of(self.generation, step))
                self.acknowledged.append(step)
        except DistckptError as error:
            self.ended_by = type(error).__name__


def value_of(generation: int, step: int) -> float:
    return float(100 * generation + step)


@pytest.fixture
def _taking_turns_often() -> Iterator[None]:
    """Threads take turns a hundred times as often as they would, so that two chiefs meet in more places."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(before / 100)
    yield
    sys.setswitchinterval(before)


@pytest.mark.timeout(0)  # as long as the number of duels takes
@pytest.mark.usefixtures("_taking_turns_often")
def test_two_chiefs_that_start_at_once_lose_nothing_that_either_acknowledged(
    in_memory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, logger="distckpt")
    endings: Counter[str] = Counter()
    with nothing_is_synced():
        for number in range(DUELS):
            directory = in_memory / f"duel-{number}"
            together = threading.Barrier(2)
            duellists = [Duellist(directory, together) for _ in range(2)]
            for each in duellists:
                each.thread.join(WAIT_S)
            endings[" and ".join(sorted(each.ended_by or "to the end" for each in duellists))] += 1
            check_duel(directory, duellists)
    print(dict(endings))  # noqa: T201 - `make zombies` shows it
    assert sum(count for ending, count in endings.items() if "to the end" in ending) == DUELS, "one goes on, each time"


def check_duel(directory: Path, duellists: list[Duellist]) -> None:
    live = {each.step: each.generation for each in Journal.open(PosixStorage(directory)).state.live}
    for each in duellists:
        for step in each.acknowledged[-2:]:  # the others were retired
            assert live.get(step, 0) >= each.generation or max(live.values()) > each.generation
    chief = start(PosixStorage.create(directory), keep=2, directory=str(directory))
    assert values(chief.storage) == {step: value_of(generation, step) for step, generation in live.items()}
    check_no_leftovers(PosixStorage(directory), chief)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "job"


def test_a_worker_that_writes_while_its_generation_is_sealed_cannot_hand_in_its_shard(directory: Path) -> None:
    old = start(PosixStorage.create(directory))
    shard = PosixStorage(directory).stage(old.journal.state.generation, "1-1")
    shard.write_at(0, b"half of it")
    heir = start(PosixStorage.create(directory))
    shard.write_at(10, b"and the other half")
    with pytest.raises(StorageError, match="1/1-1"):
        shard.seal()
    heir.commit(1, 1.0)
    assert values(heir.storage) == {1: 1.0}
    check_no_leftovers(PosixStorage(directory), heir)


def test_what_a_worker_of_a_sealed_generation_writes_afterwards_is_seen_by_nobody_and_removed(directory: Path) -> None:
    old = start(PosixStorage.create(directory))
    heir = start(PosixStorage.create(directory))
    late: list[str] = []
    for step in (1, 2):
        late.append(zombie_writes(old, step))
        heir.commit(step, float(step))
    assert values(heir.storage) == {1: 1.0, 2: 2.0}
    assert set(late) < set(heir.storage.staged()), "it is there, under its own generation's name"
    again = start(PosixStorage.create(directory))
    assert values(again.storage) == {1: 1.0, 2: 2.0}
    check_no_leftovers(PosixStorage(directory), again)


def zombie_writes(old: Chief, step: int) -> str:
    """A shard of the same round and worker as the heir's."""
    shard = old.storage.stage(old.journal.state.generation, f"{step}-0")
    shard.write_at(0, b"of the past")
    return shard.seal()
