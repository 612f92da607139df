"""What `keep_checkpoint_every_n_hours` preserves stays for good, whoever dies when, and whatever becomes of the state
file.
"""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from distckpt.bundle.statefile import parse_state
from distckpt.journal.log import Journal
from distckpt.storage.memory import MemoryStorage

HOUR = 3600.0


class Clock:
    def __init__(self, now: float = 100 * HOUR) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def preserved(storage: MemoryStorage) -> dict[str, bool]:
    return {each.name: each.preserved for each in Journal.open(storage).state.live}


def hourly(storage: MemoryStorage, new_chief: Any, clock: Clock, steps: range, keep: int = 1, hours: float = 2) -> Any:
    chief = new_chief(storage, keep=keep, hours=hours, clock=clock)
    for step in steps:
        clock.now += HOUR
        chief.commit(step, float(step))
    return chief


def test_preserved_ones_are_left_out_of_the_state_file_and_survive_runs_without_the_setting(
    new_chief: Any, values_in: Any
) -> None:
    storage, clock = MemoryStorage(), Clock()
    hourly(storage, new_chief, clock, range(1, 6))
    assert preserved(storage) == {"ckpt-2": True, "ckpt-4": True, "ckpt-5": False}
    state = parse_state(storage.read("checkpoint"))
    assert state.all_model_checkpoint_paths == ("ckpt-5",)
    assert state.last_preserved_timestamp == 104 * HOUR
    chief = new_chief(storage, keep=1, clock=clock)
    clock.now += HOUR
    assert chief.commit(6, 6.0) == ("ckpt-5",)
    assert values_in(storage) == {2: 2.0, 4: 4.0, 6: 6.0}


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_chief_that_dies_at_any_operation_of_a_preservation_loses_none_and_the_next_goes_on_counting(
    moment: str, faulty: Any, new_chief: Any, values_in: Any
) -> None:
    for number in count():
        storage, clock = MemoryStorage(), Clock()
        chief = hourly(storage, new_chief, clock, range(1, 5))  # ckpt-2 is preserved, ckpt-4 will be
        broken = faulty.FaultyStorage(storage, **{moment: faulty.at(number, faulty.Crash())})
        chief.storage = chief.committer.storage = chief.journal._storage = broken
        clock.now += HOUR
        try:
            chief.commit(5, 5.0)
        except faulty.Crash:
            acknowledged = False
        else:
            acknowledged = True
        hourly(storage, new_chief, clock, range(6, 9))
        assert values_in(storage) == {step: float(step) for step in (2, 4, 6, 8)}
        assert preserved(storage) == {"ckpt-2": True, "ckpt-4": True, "ckpt-6": True, "ckpt-8": False}
        if acknowledged:
            break


@pytest.mark.parametrize("content", [None, b"garbage"])
def test_a_state_file_that_is_lost_makes_nothing_preserved_that_was_not(content: bytes | None, new_chief: Any) -> None:
    storage, clock = MemoryStorage(), Clock()
    hourly(storage, new_chief, clock, range(1, 7), keep=2)
    before = preserved(storage)
    if content is None:
        storage.delete("checkpoint")
    else:
        storage.put("checkpoint", content)
    clock.now += HOUR
    new_chief(storage, keep=2, hours=2, clock=clock)
    assert preserved(storage) == before
    assert parse_state(storage.read("checkpoint")).last_preserved_timestamp == 104 * HOUR


def test_a_lost_state_file_of_a_job_that_preserves_nothing_leaves_all_to_retention(new_chief: Any) -> None:
    storage, clock = MemoryStorage(), Clock()
    hourly(storage, new_chief, clock, range(1, 4), keep=3, hours=0)
    storage.delete("checkpoint")
    clock.now += HOUR
    chief = new_chief(storage, keep=1, clock=clock)
    assert chief.commit(4, 4.0) == ("ckpt-1", "ckpt-2", "ckpt-3")


def test_a_start_leaves_a_state_file_that_fits_as_it_is(new_chief: Any) -> None:
    storage, clock = MemoryStorage(), Clock()
    hourly(storage, new_chief, clock, range(1, 4))
    marked = storage.read("checkpoint") + b"# by hand\n"
    storage.put("checkpoint", marked)
    new_chief(storage, keep=1, clock=clock)
    assert storage.read("checkpoint") == marked


def test_a_state_file_that_names_only_what_is_elsewhere_is_not_removed(new_chief: Any) -> None:
    storage = MemoryStorage()
    storage.put("checkpoint", b'model_checkpoint_path: "/elsewhere/ckpt-1"\n')
    new_chief(storage)
    assert storage.read("checkpoint") == b'model_checkpoint_path: "/elsewhere/ckpt-1"\n'


def test_where_only_preserved_ones_are_left_the_state_file_names_the_newest_and_the_next_save_goes_on(
    new_chief: Any, values_in: Any
) -> None:
    storage, clock = MemoryStorage(), Clock()
    chief = hourly(storage, new_chief, clock, range(1, 6))
    chief.committer.quarantine("ckpt-5", "a flipped bit")
    for _ in range(2):
        state = parse_state(storage.read("checkpoint"))
        assert (state.model_checkpoint_path, state.all_model_checkpoint_paths) == ("ckpt-4", ("ckpt-4",))
        new_chief(storage, keep=1, clock=clock)
        assert preserved(storage) == {"ckpt-2": True, "ckpt-4": True}
    hourly(storage, new_chief, clock, range(6, 9), hours=0)
    assert preserved(storage) == {"ckpt-2": True, "ckpt-4": True, "ckpt-8": False}
    assert values_in(storage) == {2: 2.0, 4: 4.0, 8: 8.0}
