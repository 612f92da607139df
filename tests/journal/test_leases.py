"""When a lease holds, and when it is over."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distckpt.journal import holding
from distckpt.journal.holding import Holder
from distckpt.journal.leases import CONFIRM_S, DEAD_S, LEASES, Lease, LeaseWatch, decode_lease, encode_lease
from distckpt.journal.process import this_process
from distckpt.journal.records import Process
from distckpt.storage.memory import MemoryStorage

FAR = Process("another", 7, "their boot", "their namespace", "123")
KEY = f"{LEASES}/far.json"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def put(storage: MemoryStorage, counter: int = 1, names: tuple[str, ...] | None = ("ckpt-1",), **fields: Any) -> None:
    storage.put(KEY, encode_lease(replace(Lease(FAR, counter, 5.0, names), **fields)))


@pytest.fixture
def checkpoints(checkpoint: Any) -> list[Any]:
    return [checkpoint(step) for step in (1, 2, 3)]


def test_a_lease_reads_back_as_it_was_written() -> None:
    for lease in (Lease(FAR, 3, 1.5, ("a", "b/c")), Lease(FAR, 4, 2.5, None, ("1/x", "ckpt-7"))):
        assert decode_lease(encode_lease(lease), KEY) == lease


def test_a_named_checkpoint_is_held_and_no_other(storage: MemoryStorage, checkpoints: list[Any]) -> None:
    put(storage)
    assert LeaseWatch(storage).held(checkpoints) == {"ckpt-1"}


def test_a_lease_on_all_holds_what_it_has_never_heard_of(storage: MemoryStorage, checkpoints: list[Any]) -> None:
    put(storage, names=None, done=(checkpoints[0].files[-1].handle,))
    assert LeaseWatch(storage).held(checkpoints) == {"ckpt-2", "ckpt-3"}


def test_a_lease_that_changes_lives_however_seldom_one_looks(storage: MemoryStorage, checkpoints: list[Any]) -> None:
    clock = Clock()
    watch = LeaseWatch(storage, clock=clock)
    for counter in range(5):
        put(storage, counter)
        assert watch.held(checkpoints) == {"ckpt-1"}
        clock.now += 3600


def test_a_lease_that_does_not_change_while_it_is_watched_is_over_and_deleted(
    storage: MemoryStorage, checkpoints: list[Any]
) -> None:
    clock = Clock()
    watch = LeaseWatch(storage, clock=clock)
    put(storage)
    for later in (0.0, DEAD_S - 1, 1.0, CONFIRM_S - 1):
        clock.now += later
        assert watch.held(checkpoints) == {"ckpt-1"}
    clock.now += 1
    assert watch.held(checkpoints) == set()
    assert storage.keys(LEASES) == []


def test_whoever_was_frozen_together_with_the_holder_gives_it_time_to_renew(
    storage: MemoryStorage, checkpoints: list[Any]
) -> None:
    clock = Clock()
    watch = LeaseWatch(storage, clock=clock)
    put(storage)
    watch.held(())
    clock.now += 3600
    assert watch.held(checkpoints) == {"ckpt-1"}
    put(storage, counter=2)
    clock.now += CONFIRM_S
    assert watch.held(checkpoints) == {"ckpt-1"}


def test_a_process_of_this_machine_that_is_gone_holds_nothing(storage: MemoryStorage, checkpoints: list[Any]) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19]
    put(storage, process=replace(this_process(), pid=child.pid, started=started))
    watch = LeaseWatch(storage)
    assert watch.held(checkpoints) == {"ckpt-1"}
    child.kill()
    child.wait()
    assert watch.held(checkpoints) == set()
    assert storage.keys(LEASES) == []


def test_a_file_that_is_no_lease_holds_nothing_and_is_cleared_away_in_time(
    storage: MemoryStorage, checkpoints: list[Any]
) -> None:
    clock = Clock()
    watch = LeaseWatch(storage, clock=clock)
    storage.put(KEY, b"{")
    for later in (0.0, DEAD_S, CONFIRM_S):
        clock.now += later
        assert watch.held(checkpoints) == set()
    assert storage.keys(LEASES) == []


def test_whoever_may_not_change_anything_deletes_no_lease(storage: MemoryStorage, checkpoints: list[Any]) -> None:
    clock = Clock()
    watch = LeaseWatch(storage, sweep=False, clock=clock)
    put(storage)
    for later in (0.0, DEAD_S, CONFIRM_S):
        clock.now += later
        held = watch.held(checkpoints)
    assert held == set()
    assert storage.keys(LEASES) == [KEY]


def test_a_listing_that_leaves_a_renewed_name_out_ends_no_lease(checkpoints: list[Any]) -> None:
    """btrfs: a name over which another file is renamed while the folder is read may be missing from the list."""

    class Forgetful(MemoryStorage):
        listings = 0

        def keys(self, prefix: str) -> list[str]:
            self.listings += 1
            return [] if self.listings == 1 or self.listings > 2 else super().keys(prefix)

    storage = Forgetful()
    put(storage)
    watch = LeaseWatch(storage)
    assert watch.held(checkpoints) == {"ckpt-1"}
    assert watch.held(checkpoints) == {"ckpt-1"}


def test_watching_ends_as_soon_as_the_holder_has_renewed(storage: MemoryStorage) -> None:
    put(storage)
    naps: list[float] = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        put(storage, counter=1 + len(naps))

    LeaseWatch(storage).observe(sleep)
    assert len(naps) == 1
    assert storage.keys(LEASES) == [KEY]


def test_watching_a_dead_holder_ends_its_lease(storage: MemoryStorage, checkpoints: list[Any]) -> None:
    clock = Clock()
    put(storage)
    watch = LeaseWatch(storage, clock=clock)
    watch.observe(lambda seconds: setattr(clock, "now", clock.now + seconds))
    assert watch.held(checkpoints) == set()
    assert storage.keys(LEASES) == []


def test_a_holder_holds_all_then_one_and_in_the_end_nothing(storage: MemoryStorage, checkpoints: list[Any]) -> None:
    watch = LeaseWatch(storage)
    with Holder(storage) as holder:
        assert watch.held(checkpoints) == {"ckpt-1", "ckpt-2", "ckpt-3"}
        holder.narrow(checkpoints[1])
        assert watch.held(checkpoints) == {"ckpt-2"}
    assert watch.held(checkpoints) == set()
    assert storage.keys(LEASES) == []


def wait_for(storage: MemoryStorage, condition: Any) -> None:
    """Until a lease fulfils the condition; the test's own deadline bounds it."""
    while not condition([decode_lease(storage.read(key), key) for key in storage.keys(LEASES)]):
        time.sleep(0.005)


def test_a_holder_renews_its_lease_until_it_ends(storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "RENEW_S", 0.01)
    monkeypatch.setattr(holding, "REWRITE_S", 0.0)
    with Holder(storage):
        wait_for(storage, lambda leases: leases[0].counter > 5)
        (key,) = storage.keys(LEASES)
        assert decode_lease(storage.read(key), key).process.pid == os.getpid()
    assert storage.keys(LEASES) == []


def test_what_is_done_is_written_at_the_next_renewal_where_the_last_was_just_now(
    storage: MemoryStorage, checkpoints: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "RENEW_S", 0.01)
    monkeypatch.setattr(holding, "REWRITE_S", 0.05)
    with Holder(storage) as holder:
        holder.let_go(checkpoints[:1])
        assert LeaseWatch(storage).held(checkpoints[:1]) == {"ckpt-1"}
        wait_for(storage, lambda leases: leases[0].done == (checkpoints[0].files[-1].handle,))


def test_a_holder_whose_lease_was_taken_for_dead_says_so_and_does_not_revive_it(
    storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(holding, "RENEW_S", 0.01)
    with Holder(storage) as holder:
        (key,) = storage.keys(LEASES)
        storage.delete(key)
        holder._renewing.join()
        assert storage.keys(LEASES) == []
    assert "was taken for dead" in caplog.text
