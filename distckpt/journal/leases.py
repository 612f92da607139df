"""Leases: a reader says what it reads, and retention leaves that alone (docs/decisions/0006-leases.md).

A lease is a file of its holder's own, renewed by it. Its end is the file's: the holder deletes it, or whoever retires
does so once the holder is dead. No clocks are compared: a lease lives as long as it changes while it is watched, and a
process of this machine that is no more holds none.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from distckpt.errors import CorruptJournal, ObjectMissing
from distckpt.journal.codec import process_from_json, process_to_json
from distckpt.journal.fields import Fields
from distckpt.journal.process import is_gone, this_process
from distckpt.journal.records import Process
from distckpt.model import Checkpoint
from distckpt.storage.interface import Storage

log = logging.getLogger("distckpt.leases")

LEASES = ".distckpt/leases"
RENEW_S = 2.0
DEAD_S = 20.0
"""A lease that did not change for so long is suspected,"""
CONFIRM_S = 2 * RENEW_S
"""and dead if it still has not changed so much later: who watches may have been frozen together with the holder."""
REWRITE_S = 0.5
"""A lease is not written again sooner, but for the once that it is narrowed; see `LeaseWatch`."""
LEASE_BYTES_MAX = 1 << 22


def identity(checkpoint: Checkpoint) -> str:
    """What tells a checkpoint from one that replaced it: the index's own name; an adopted one has only its name."""
    return checkpoint.files[-1].handle or checkpoint.name


@dataclass(frozen=True, slots=True)
class Lease:
    """What `process` reads: the checkpoints called `names`, or, where that is None, all that are not among `done`.

    `done` are identities. `counter` grows with each renewal; `timestamp` (seconds since the epoch) is for people.
    """

    process: Process
    counter: int
    timestamp: float
    names: tuple[str, ...] | None
    done: tuple[str, ...] = ()

    def holds(self, checkpoint: Checkpoint) -> bool:
        if self.names is not None:
            return checkpoint.name in self.names
        return identity(checkpoint) not in self.done


def encode_lease(lease: Lease) -> bytes:
    content = {
        "process": process_to_json(lease.process),
        "counter": lease.counter,
        "timestamp": lease.timestamp,
        "names": lease.names,
        "done": lease.done,
    }
    return json.dumps(content, indent=1).encode() + b"\n"


def decode_lease(data: bytes, path: str) -> Lease:
    """Raises CorruptJournal."""
    try:
        fields = Fields(json.loads(data), path)
    except (ValueError, RecursionError) as error:
        raise CorruptJournal(path, f"is no JSON: {error}") from error
    return Lease(
        process=process_from_json(fields.inner("process")),
        counter=fields.integer("counter"),
        timestamp=fields.number("timestamp"),
        names=None if fields.is_null("names") else fields.texts("names"),
        done=fields.texts("done"),
    )


@dataclass(slots=True)
class _Sight:
    """A lease's content, since when it has been that, and since when it has been suspected (`clock` seconds)."""

    data: bytes
    since: float
    suspected: float | None = None
    renewed: bool = False


class LeaseWatch:
    """What whoever retires knows of the leases in one directory. Used from one thread.

    A listing may leave out a name over which another file is renamed meanwhile (btrfs does). So leases that are known
    are read by name, and new ones looked for twice: no lease is written twice within REWRITE_S of its narrowing.

    `sweep`: leases that are over are deleted. `clock`: seconds of one monotonic clock.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        here: Process | None = None,
        sweep: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._storage = storage
        self._here = here or this_process()
        self._sweep = sweep
        self._clock = clock
        self._sights: dict[str, _Sight] = {}

    def held(self, checkpoints: Collection[Checkpoint]) -> set[str]:
        """The names of those of `checkpoints` that somebody reads. Raises StorageError: then nothing may be removed."""
        leases = list(self._living())
        return {each.name for each in checkpoints if any(lease.holds(each) for lease in leases)}

    def observe(self, sleep: Callable[[float], None] = time.sleep) -> None:
        """Watches until it is known of each lease whether its holder lives, for up to DEAD_S + CONFIRM_S or a little
        more. For those that retire once and not again.
        """
        for _ in range(int((DEAD_S + CONFIRM_S) / RENEW_S) + 2):
            self.held(())
            if all(sight.renewed for sight in self._sights.values()):
                return
            sleep(RENEW_S)

    def _living(self) -> Iterator[Lease]:
        seen: dict[str, _Sight] = {}
        for key in sorted({*self._storage.keys(LEASES), *self._storage.keys(LEASES), *self._sights}):
            try:
                data = self._storage.read_at(key, 0, LEASE_BYTES_MAX)
            except ObjectMissing:
                continue  # let go just now
            sight = self._sight(key, data)
            lease = _decoded(data, key)
            over = self._over(sight, lease)
            if over:
                log.warning("the lease %s is over: %s", key, over)
                if self._sweep:
                    self._storage.delete(key)
                continue
            seen[key] = sight
            if lease is not None:
                yield lease
        self._sights = seen

    def _sight(self, key: str, data: bytes) -> _Sight:
        before = self._sights.get(key)
        if before is not None and before.data == data:
            return before
        return _Sight(data, self._clock(), renewed=before is not None)

    def _over(self, sight: _Sight, lease: Lease | None) -> str:
        """Why a lease is over; empty if it is not."""
        if lease is not None and is_gone(lease.process, self._here):
            return f"{lease.process} is no more"
        now = self._clock()
        if now - sight.since < DEAD_S:
            return ""
        if sight.suspected is None:
            sight.suspected = now
        if now - sight.suspected < CONFIRM_S:
            return ""
        return f"{lease.process if lease else 'an unknown process'} has not renewed it for {now - sight.since:.0f} s"


def _decoded(data: bytes, key: str) -> Lease | None:
    """A file that is no lease holds nothing."""
    try:
        return decode_lease(data, key)
    except CorruptJournal:
        return None


def nobody(_checkpoints: Iterable[Checkpoint]) -> Collection[str]:
    """Where there are no readers."""
    return ()
