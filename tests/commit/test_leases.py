"""A reader takes a lease, looks and reads, while the chief commits, retires and deletes: at every pair of moments.

The chief stops before each of its storage operations, reads included. At one of them the reader writes its lease, at
the same or a later one it looks, and what it finds live it reads after everything else has happened.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from typing import Any

import pytest

from distckpt.bundle.verify import verify
from distckpt.commit import committer as committing
from distckpt.commit.publication import is_visible
from distckpt.commit.recovery import recover
from distckpt.errors import StorageError
from distckpt.journal.holding import Holder
from distckpt.journal.leases import LEASES, LeaseWatch
from distckpt.journal.log import Journal
from distckpt.journal.reading import load
from distckpt.model import Checkpoint
from distckpt.storage.memory import MemoryStorage


class Killed(BaseException):
    """The chief dies here."""


class Stepping:
    """`inner`; calls `step(number)` before each operation, whatever it is."""

    def __init__(self, inner: MemoryStorage, step: Callable[[int], None]) -> None:
        self._inner = inner
        self._step = step
        self.steps = 0

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._inner, name)

        def stepped(*args: Any, **kwargs: Any) -> Any:
            self.steps += 1
            self._step(self.steps - 1)
            return operation(*args, **kwargs)

        return stepped


class Reader:
    """Leases, looks, holds the oldest that it finds, and reads it."""

    def __init__(self, storage: MemoryStorage) -> None:
        self.storage = storage
        self.held: Checkpoint | None = None
        self.lease = ExitStack()
        self._holder: Any = None

    def write_lease(self) -> None:
        self._holder = self.lease.enter_context(Holder(self.storage))

    def look(self) -> None:
        visible = [each for each in load(self.storage).state.live if is_visible(self.storage, each)]
        self.held = visible[0]
        self._holder.narrow(self.held)

    def faults(self) -> list[Any]:
        assert self.held is not None
        return verify(self.storage, self.held.name)


def begin(storage: MemoryStorage, new_chief: Any) -> Any:
    chief = new_chief(storage, keep=1)
    chief.committer.leased = LeaseWatch(storage).held
    return chief


def commit_with(reader: Reader, lease_at: int, look_at: int, chief: Any) -> int:
    """Commits step 2, which retires step 1, with the reader's steps in between. How many steps the chief made."""

    def step(number: int) -> None:
        if number == lease_at:
            reader.write_lease()
        if number == look_at:
            reader.look()

    stepping = Stepping(reader.storage, step)
    chief.storage = chief.committer.storage = chief.journal._storage = stepping
    chief.committer.leased = LeaseWatch(stepping).held
    chief.commit(2, 2.0)
    chief.storage = chief.committer.storage = chief.journal._storage = reader.storage
    return stepping.steps


def everything(new_chief: Any) -> tuple[list[tuple[int, int]], list[Any]]:
    """All pairs of moments; returns those at which the reader found faults, and what was left over at the end."""
    torn, leftovers = [], []
    for lease_at in count():
        for look_at in count(lease_at):
            storage = MemoryStorage()
            chief = begin(storage, new_chief)
            chief.commit(1, 1.0)
            reader = Reader(storage)
            steps = commit_with(reader, lease_at, look_at, chief)
            if lease_at >= steps:
                return torn, leftovers
            if look_at >= steps:
                reader.lease.close()
                break
            if reader.faults():
                torn.append((lease_at, look_at))
            chief.committer.leased = LeaseWatch(storage).held
            chief.commit(3, 3.0)
            if reader.faults():
                torn.append((lease_at, look_at))
            reader.lease.close()
            chief.commit(4, 4.0)
            leftovers.append([key for key in storage.keys("") if key.startswith(("ckpt-1", "ckpt-2", "ckpt-3"))])
            leftovers[-1] += storage.keys(LEASES) + storage.keys(".distckpt/postponed")
    raise AssertionError("ended above")


def test_what_a_reader_found_live_under_its_lease_is_whole_until_it_lets_go_and_is_then_removed(
    new_chief: Any,
) -> None:
    torn, leftovers = everything(new_chief)
    assert len(leftovers) > 300, "a commit has many moments"
    assert torn == []
    assert not any(leftovers)


def test_a_chief_that_does_not_look_again_after_retiring_is_found_out(
    new_chief: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    blind = committing.remove_retired
    monkeypatch.setattr(committing, "remove_retired", lambda s, retired, live, _: blind(s, retired, live, lambda _: ()))
    assert everything(new_chief)[0]


def test_a_reader_that_looks_before_it_leases_is_found_out(new_chief: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def look_first(reader: Reader) -> None:
        reader.held = load(reader.storage).state.live[0]

    def then_lease(reader: Reader) -> None:
        reader._holder = reader.lease.enter_context(Holder(reader.storage))
        reader._holder.narrow(reader.held)

    monkeypatch.setattr(Reader, "write_lease", look_first)
    monkeypatch.setattr(Reader, "look", then_lease)
    assert everything(new_chief)[0]


def test_whenever_the_chief_dies_its_successor_leaves_the_leased_one_alone_until_it_is_let_go(new_chief: Any) -> None:
    survived = 0
    for lease_at in count(0, 3):
        for die_at in count(lease_at, 2):
            storage = MemoryStorage()
            chief = begin(storage, new_chief)
            chief.commit(1, 1.0)
            reader = Reader(storage)
            steps = die_in_commit(reader, lease_at, die_at, chief)
            if die_at >= steps:
                reader.lease.close()
                break
            heir = restarted(storage, chief)
            assert reader.faults() == []
            heir.commit(3, 3.0)
            assert reader.faults() == []
            heir = restarted(storage, chief)
            assert reader.faults() == []
            reader.lease.close()
            heir.commit(4, 4.0)
            assert [key for key in storage.keys("") if key.endswith(".index")] == ["ckpt-4.index"]
            assert storage.keys(".distckpt/postponed") == []
            survived += 1
        if lease_at >= steps:
            break
    assert survived > 50


def die_in_commit(reader: Reader, lease_at: int, die_at: int, chief: Any) -> int:
    """The reader leases and looks at one moment, the chief dies at a later one."""

    def step(number: int) -> None:
        if number == lease_at:
            reader.write_lease()
            reader.look()
        if number >= die_at:
            raise Killed

    stepping = Stepping(reader.storage, step)
    chief.storage = chief.committer.storage = chief.journal._storage = stepping
    chief.committer.leased = LeaseWatch(stepping).held
    try:
        chief.commit(2, 2.0)
    except Killed:
        return die_at + 1
    return stepping.steps


def restarted(storage: MemoryStorage, like: Any) -> Any:
    """The next generation, as a chief starts: it knows of leases in its recovery too."""
    journal = Journal.open(storage)
    journal.begin(job="job", process=journal.state.begun.process, world=(), timestamp=0.0)
    leased = LeaseWatch(storage).held
    preserved = recover(storage, journal, "/job", leased)
    committer = committing.Committer(storage, journal, "job", like.committer.policy, preserved, leased=leased)
    return type(like)(storage, journal, committer)


def test_what_was_postponed_goes_even_when_the_journal_has_forgotten_it(new_chief: Any) -> None:
    """A lease that outlives 70 more retirements, taken between the chief's look and its RETIRE."""
    storage, postponed = MemoryStorage(), 0
    for moment in count():
        storage = MemoryStorage()
        chief = begin(storage, new_chief)
        chief.commit(1, 1.0)
        reader = Reader(storage)
        if commit_with(reader, moment, moment, chief) <= moment:
            break
        if not storage.keys(".distckpt/postponed"):
            reader.lease.close()
            continue
        postponed += 1
        for step in range(3, 80):
            chief.commit(step, float(step))
        assert "ckpt-1" not in {each.name for each in chief.journal.state.retired}
        assert reader.faults() == []
        heir = restarted(storage, chief)
        assert reader.faults() == []
        reader.lease.close()
        heir.commit(80, 80.0)
        assert [key for key in storage.keys("") if key.endswith(".index")] == ["ckpt-80.index"]
    assert postponed, "at no moment is a retired checkpoint leased: this test shows nothing"


def test_where_leases_cannot_be_read_nothing_is_retired_and_the_commit_stands(new_chief: Any) -> None:
    storage = MemoryStorage()
    chief = new_chief(storage, keep=1)

    def unreadable(_: object) -> tuple[str, ...]:
        raise StorageError("list .distckpt/leases: Input/output error (EIO)")

    chief.committer.leased = unreadable
    assert [chief.commit(step, 1.0) for step in (1, 2)] == [(), ()]
    chief.committer.leased = LeaseWatch(storage).held
    assert chief.commit(3, 3.0) == ("ckpt-1", "ckpt-2")
