"""The power is lost at any moment of a save, a retention and a recovery: every state that POSIX allows is recovered.

The system calls of a real chief on a real directory are recorded below storage/posix.py; what may be left of them is
built (crashing/states.py says by which rules) and recovered by the real code. DISTCKPT_CRASH_STATES=all takes every
state of the recoveries too; without it, of these, a sample by a fixed seed.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from random import Random

import pytest
from crashing.chief import start, values
from crashing.recording import Change, Recording, Sync
from crashing.states import State, as_changes, crash_states, materialise
from crashing.story import Expected, check, nothing_is_synced, save_and_link, save_retire_and_restart
from crashing.system import layer

from distckpt.errors import DistckptError
from distckpt.runtime import unchanged
from distckpt.storage.posix import PosixStorage

ALL = os.environ.get("DISTCKPT_CRASH_STATES") == "all"
BASES, STATES_EACH = 12, 12


class Places:
    """Directories, fresh and removed again, that hold a state."""

    def __init__(self, top: Path) -> None:
        self._top = top
        self._numbers = count()

    def of(self, state: State) -> Iterator[Path]:
        place = self._top / f"state-{next(self._numbers)}"
        place.mkdir()
        materialise(state.folder, place)
        yield place
        shutil.rmtree(place)


@pytest.fixture
def places(in_memory: Path, caplog: pytest.LogCaptureFixture) -> Places:
    caplog.set_level(logging.CRITICAL, logger="distckpt")  # the warnings of thousands of recoveries
    return Places(in_memory)


@pytest.fixture(scope="module")
def changes(tmp_path_factory: pytest.TempPathFactory) -> list[Change]:
    """What the story asked of the file system."""
    top = tmp_path_factory.mktemp("recorded")
    recording = Recording(str(top))
    with nothing_is_synced(), layer(top, recording):
        save_retire_and_restart(top / "job", recording.say)
    return recording.changes


def without(changes: list[Change], pattern: str) -> list[Change]:
    """The same run, if each fsync whose site matches were removed from the code."""
    left = [each for each in changes if not (isinstance(each, Sync) and re.search(pattern, each.site))]
    assert len(left) < len(changes), "there is no such fsync"
    return left


def test_whatever_a_power_loss_leaves_of_saves_retentions_and_restarts_is_recovered(
    changes: list[Change], places: Places
) -> None:
    number = 0
    for state in crash_states(changes):
        number += 1
        for place in places.of(state):
            check(place / "job", Expected(state.live, state.coming))
    print(f"{number} crash states of {len(changes)} changes")  # noqa: T201 - `make crashes` shows it
    assert number > 400


@pytest.fixture
def linking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Change]:
    """What the story that links asked of the file system."""
    monkeypatch.setattr(unchanged, "LEAST_BYTES", 1)
    recording = Recording(str(tmp_path))
    with nothing_is_synced(), layer(tmp_path, recording):
        save_and_link(tmp_path / "job", recording.say)
    return recording.changes


def test_whatever_a_power_loss_leaves_of_saves_that_link_is_recovered(linking: list[Change], places: Places) -> None:
    assert any(isinstance(each, Sync) and each.site.startswith("stage_link") for each in linking)
    number = 0
    for state in crash_states(linking):
        number += 1
        for place in places.of(state):
            check(place / "job", Expected(state.live, state.coming))
    print(f"{number} crash states of {len(linking)} changes, with links")  # noqa: T201 - as above
    assert number > 150


def test_a_power_loss_in_the_recovery_from_a_power_loss_is_recovered_to_the_same(
    changes: list[Change], places: Places
) -> None:
    rng, number, bases = Random(5), 0, list(crash_states(changes))
    for base in bases if ALL else rng.sample(bases, BASES):
        for place in places.of(base):
            recording = recovery_of(base, place)
        again = list(crash_states(recording.changes, begin=len(as_changes(base.folder))))
        for state in again if ALL else rng.sample(again, min(len(again), STATES_EACH)):
            number += 1
            for place in places.of(state):
                check(place / "job", Expected(base.live, base.coming), Expected(state.coming, state.coming))
    print(f"{number} crash states of the recoveries of {len(bases) if ALL else BASES}")  # noqa: T201 - as above
    assert number > 100


def recovery_of(base: State, place: Path) -> Recording:
    """What a start on `base` asks of the file system; what it found there is said at its end."""
    recording = Recording.after(str(place), as_changes(base.folder))
    with nothing_is_synced(), layer(place, recording):
        chief = start(PosixStorage.create(place / "job"), keep=2, directory=str(place / "job"))
    recording.say(values(chief.storage))
    return recording


NECESSARY = {
    "the folders that a write makes, in their parents": "make_folders",
    "the job's own folder": "^create.make_folders",
    "the folder of staged files": "^stage",
    "a staged file": "seal$",
    "a staged file's name": "seal.sync_folder",
    "a journal record": "^put_if_absent._temporary$",
    "a journal record's name": "^put_if_absent._sync_names",
    "the state file": "^put._temporary$",
    "the state file's name": "^put._sync_names",
    "a published index": "^publish",
    "the other published names": "^together",
    "a deleted name": "^delete",
}
"""Each fsync that the storage makes, but for two: that of the probe file, whose content means nothing, and that of a
discarded file's own name, which recovery discards again."""


@pytest.mark.parametrize("pattern", NECESSARY.values(), ids=NECESSARY)
def test_without_this_fsync_a_power_loss_does_harm(pattern: str, changes: list[Change], places: Places) -> None:
    with pytest.raises((AssertionError, DistckptError)):  # noqa: PT012 - whichever state shows it
        for state in crash_states(without(changes, pattern)):
            for place in places.of(state):
                check(place / "job", Expected(state.live, state.coming))


def test_every_fsync_is_necessary_or_excused(changes: list[Change]) -> None:
    sites = {each.site for each in changes if isinstance(each, Sync)}
    known = "|".join(("^create._try_writing._temporary$", "^discard", *NECESSARY.values()))
    assert [site for site in sites if not re.search(known, site)] == []
