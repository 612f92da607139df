"""Several openers, appenders, compactors and readers, one storage operation at a time, in thousands of orders.

The truth is what first stood in each slot. Whatever the order, however long one of them is held up, and wherever it
dies: the truth is one legal history, all that was acknowledged is in it, and whoever reads sees a prefix of it that is
no older than the reading. Broken variants of the journal show that these schedules can tell.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from random import Random
from threading import Lock, Thread
from typing import TypeVar

import pytest

from distckpt.errors import CorruptJournal, DistckptError, Fenced, OutcomeUnknown, StorageError
from distckpt.journal import compaction, log, names, reading
from distckpt.journal.codec import decode_entry
from distckpt.journal.log import Journal
from distckpt.journal.names import slot_key
from distckpt.journal.records import CommitRecord, GenerationRecord, Process, Record, RetireRecord
from distckpt.journal.state import JournalState, apply
from distckpt.model import Checkpoint, FileRecord
from distckpt.storage.memory import MemoryStorage

SCHEDULES = int(os.environ.get("DISTCKPT_JOURNAL_SCHEDULES", "600"))
STEPS_MAX = 3_000
T = TypeVar("T")


class Died(BaseException):
    """The process is killed at this storage operation."""


class Truth:
    """What first stood in each slot, and what was acknowledged."""

    def __init__(self) -> None:
        self.first: dict[str, bytes] = {}
        self.acknowledged: list[tuple[int, str]] = []
        self.begun: list[tuple[int, str]] = []
        self.faults: list[str] = []
        self.late: list[tuple[str, bytes]] = []

    def put(self, storage: MemoryStorage, key: str, data: bytes) -> bool:
        created = storage.put_if_absent(key, data)
        if created:
            self.first.setdefault(key, data)
        return created

    def head(self) -> int:
        return next(slot for slot in count(1) if slot_key(slot) not in self.first) - 1

    def states(self) -> Iterator[JournalState]:
        """After each slot, from 0."""
        state = JournalState()
        yield state
        for slot in range(1, self.head() + 1):
            state = apply(state, decode_entry(self.first[slot_key(slot)], slot_key(slot)))
            yield state


class Stepped:
    """A process's view of the storage: it stops before each operation until it is let go on."""

    def __init__(self, inner: MemoryStorage, truth: Truth, pause: Callable[[], None], faulty: Random | None) -> None:
        self.inner = inner
        self.truth = truth
        self.pause = pause
        self.faulty = faulty

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """With `faulty`, its answer may be lost; what it asks for was then done, or never is, or is done later."""
        self.pause()
        lost = self.faulty is not None and self.faulty.random() < 0.1
        done = self.faulty.choice(["before", "never", "later"]) if lost and self.faulty else "before"
        if done == "later":
            self.truth.late.append((key, data))
        created = done == "before" and self.truth.put(self.inner, key, data)
        if lost:
            raise OutcomeUnknown("the answer is lost")
        return created

    def put(self, key: str, data: bytes) -> None:
        self.pause()
        self.inner.put(key, data)

    def read_at(self, key: str, offset: int, length: int) -> bytes:
        self.pause()
        if self.faulty is not None and self.faulty.random() < 0.01:
            raise StorageError("not now", key)
        return self.inner.read_at(key, offset, length)

    def size(self, key: str) -> int:
        self.pause()
        return self.inner.size(key)

    def keys(self, prefix: str) -> list[str]:
        self.pause()
        return self.inner.keys(prefix)

    def delete(self, key: str) -> None:
        self.pause()
        self.inner.delete(key)


class Actor:
    """A process in a thread that runs only when it is told to, from one storage operation to the next."""

    def __init__(self, work: Callable[[Callable[[], None]], None], truth: Truth) -> None:
        self.go, self.stopped = Lock(), Lock()  # each is held until the other side hands over
        self.go.acquire()
        self.stopped.acquire()
        self.over = self.killed = False
        self.work, self.truth = work, truth
        self.thread = Thread(target=self._run, daemon=True)
        self.thread.start()

    def step(self) -> None:
        self.go.release()
        self.stopped.acquire()

    def kill(self) -> None:
        self.killed = True
        while not self.over:
            self.step()
        self.thread.join()

    def _run(self) -> None:
        self.go.acquire()
        try:
            if not self.killed:
                self.work(self._pause)
        except Died:
            pass
        except (DistckptError, AssertionError, ValueError) as error:
            self.truth.faults.append(f"{type(error).__name__}: {error}")
        self.over = True
        self.stopped.release()

    def _pause(self) -> None:
        self.stopped.release()
        self.go.acquire()
        if self.killed:
            raise Died


def chief(storage: Stepped, rng: Random, name: str) -> None:
    """Starts again and again; commits, retires and compacts until it is fenced."""
    for life in range(rng.randint(1, 3)):
        start = f"{name}-{life}"
        journal = tried(lambda: Journal.open(storage))
        begin = partial(journal.begin, job="job", process=Process(name, life), world=(), timestamp=0.0, nonce=start)
        generation = tried(begin)
        storage.truth.begun.append((generation, start))
        try:
            for number in range(rng.randint(0, 12)):
                commit(storage, journal, generation, f"{start}-{number}")
                if rng.random() < 0.8:
                    tried(journal.compact)
        except Fenced:
            with pytest.raises(Fenced):
                journal.check_fence()
            if rng.random() < 0.5:
                tried(journal.compact)  # a zombie may do that too


def commit(storage: Stepped, journal: Journal, generation: int, name: str) -> None:
    file = FileRecord(f"{name}.index", 1)
    insist(journal, CommitRecord(Checkpoint(name, 1, 0.0, generation, (file,), "sha")))
    storage.truth.acknowledged.append((generation, name))
    live = journal.state.live
    if len(live) > 2:
        insist(journal, RetireRecord((live[0].name,)))


def insist(journal: Journal, record: Record) -> None:
    """Appends `record`, whatever the storage does, or finds this generation fenced."""
    try:
        journal.append(record)
    except OutcomeUnknown:
        tried(journal.settle)


def tried(action: Callable[[], T]) -> T:
    """Does `action` until the storage lets it."""
    while True:
        try:
            return action()
        except (StorageError, OutcomeUnknown):
            continue


def reader(storage: Stepped, rng: Random) -> None:
    for _ in range(rng.randint(1, 6)):
        head = storage.truth.head()
        state = tried(lambda: Journal.open(storage)).state
        expected = dict(enumerate(storage.truth.states()))[state.slot]
        assert state == expected, "a reader saw what never was"
        assert state.slot >= head, "a reader saw less than there was when it began"


def run(seed: int) -> Truth:
    """One schedule. Weights that change now and then hold some actors up for long."""
    rng = Random(seed)
    truth, memory = Truth(), MemoryStorage()
    works: list[Callable[[Stepped], None]] = [
        partial(chief, rng=Random(rng.random()), name=f"chief{n}") for n in range(rng.randint(2, 4))
    ]
    works.append(partial(reader, rng=Random(rng.random())))
    faulty = Random(rng.random()) if seed % 3 == 0 else None
    actors = [Actor(partial(in_steps, work, memory, truth, faulty), truth) for work in works]
    weights = [1.0] * len(actors)
    for _ in range(STEPS_MAX):
        alive = [n for n, actor in enumerate(actors) if not actor.over]
        if not alive or truth.faults:
            break
        if rng.random() < 0.02:
            weights = [10.0 ** -rng.randint(0, 4) for _ in actors]
        chosen = actors[rng.choices(alive, [weights[n] for n in alive])[0]]
        if truth.late and rng.random() < 0.02:
            truth.put(memory, *truth.late.pop(rng.randrange(len(truth.late))))
        if rng.random() < 0.002:
            chosen.kill()
        else:
            chosen.step()
    for actor in actors:
        actor.kill()
    judge(truth, memory)
    return truth


def in_steps(
    work: Callable[[Stepped], None],
    memory: MemoryStorage,
    truth: Truth,
    faulty: Random | None,
    pause: Callable[[], None],
) -> None:
    work(Stepped(memory, truth, pause, faulty))


def judge(truth: Truth, memory: MemoryStorage) -> None:
    """Adds to `truth.faults` whatever may never happen."""
    try:
        final = list(truth.states())[-1]  # legal: linear, and no record of a sealed generation (I3)
        if reading.load(memory).state != final:
            truth.faults.append("what is read at the end is not what happened")
    except CorruptJournal as error:
        truth.faults.append(f"the history is not legal: {error}")
        return
    if len(truth.first) - sum("snapshot" in key for key in truth.first) != truth.head():
        truth.faults.append("slots were written beyond the head")
    entries = [decode_entry(truth.first[slot_key(slot)], "") for slot in range(1, final.slot + 1)]
    commits = [(e.generation, e.record.checkpoint.name) for e in entries if isinstance(e.record, CommitRecord)]
    starts = [(e.generation, e.record.nonce) for e in entries if isinstance(e.record, GenerationRecord)]
    truth.faults += [
        f"acknowledged, and not in the history: {each}" for each in truth.acknowledged if each not in commits
    ]
    truth.faults += [f"begun, and not in the history: {each}" for each in truth.begun if each not in starts]
    if len(set(commits)) != len(commits):
        truth.faults.append("a commit stands twice")


@pytest.mark.parametrize("interval", [2, 3, 4])
def test_in_every_order_the_history_is_one_and_nothing_acknowledged_is_lost(
    interval: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "INTERVAL", interval)
    slots = 0
    for seed in range(SCHEDULES // 3):
        truth = run(seed)
        assert not truth.faults, f"seed {seed}, interval {interval}: {truth.faults}"
        slots += truth.head()
    assert slots > SCHEDULES // 3 * 10, "the schedules get somewhere"


def never_deleted(storage: object, slot: int) -> bool:
    return False


BROKEN = {
    "slots of generations are deleted": (
        compaction,
        "_is_deletable",
        lambda storage, slot: not names.is_milestone(slot),
    ),
    "milestones are deleted": (names, "is_milestone", lambda slot: False),
    "a start does not ask whether its slot had been deleted": (log, "was_deleted", never_deleted),
    "a reader does not ask whether a missing slot was deleted": (reading, "was_deleted", never_deleted),
}


@pytest.mark.parametrize("defect", BROKEN)
def test_the_schedules_find_out_a_journal_that_is_broken(defect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "INTERVAL", 2)
    module, name, broken = BROKEN[defect]
    for where in {module, compaction, reading, log} if name == "is_milestone" else {module}:
        if hasattr(where, name):
            monkeypatch.setattr(where, name, broken)
    assert any(run(seed).faults for seed in range(SCHEDULES))
