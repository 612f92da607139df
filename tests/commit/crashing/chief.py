"""A chief's storage work without workers: shards of arrays, in memory or in a real directory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from distckpt.bundle.payload import Payload
from distckpt.bundle.reader import BundleReader
from distckpt.bundle.verify import verify
from distckpt.bundle.writer import write_share
from distckpt.commit.committer import Committer, Done
from distckpt.commit.recovery import recover
from distckpt.commit.verification import under_own_names
from distckpt.journal.log import Journal
from distckpt.journal.process import this_process
from distckpt.model import DataFile, Shard, StagedState
from distckpt.protocol.effects import Commit
from distckpt.protocol.retention import KeepLatest, Preservation
from distckpt.protocol.staged import FROZEN
from distckpt.runtime.unchanged import Unchanged, stage
from distckpt.runtime.worker_state import stage_state
from distckpt.storage.interface import Storage

DT_FLOAT = 1


@dataclass
class Chief:
    """One generation of the job, from its recovery on. `unchanged` (by worker): each worker has also a tensor that
    never changes, and links it.
    """

    storage: Storage
    journal: Journal
    committer: Committer
    rounds: int = 0
    unchanged: dict[int, Unchanged] | None = None

    def commit(
        self,
        step: int,
        value: float,
        workers: int = 2,
        name: str | None = None,
        states: tuple[int, ...] = (),
        announce: Callable[[Done], None] = lambda _: None,
    ) -> tuple[str, ...]:
        """Commits tensors full of `value`, one of each worker; returns what was retired. `states` are the workers that
        have a state of their own.
        """
        self.rounds += 1
        shards = tuple(self._shard(worker, value) for worker in range(workers))
        shards = tuple(
            replace(shard, state=self._state(shard.worker, value, workers)) if shard.worker in states else shard
            for shard in shards
        )
        request = Commit(self.rounds, step, name or f"ckpt-{step}", shards, {})
        return self.committer.commit(request, announce=announce)[1]

    def _shard(self, worker: int, value: float) -> Shard:
        payloads = [_payload(f"tensor-{worker}", value)]
        name = f"{self.rounds}-{worker}"
        if self.unchanged is None:
            written = self._staged(name, payloads)
            return Shard(worker, written.handle, written.size_bytes, written.entries)
        unchanged = self.unchanged.setdefault(worker, Unchanged(self.storage, self.journal.state.generation, 1))
        checkpoint = str(self.rounds)  # no step is saved twice in a generation
        parts = unchanged.sort([*payloads, _payload(f"constant-{worker}", -1.0)], checkpoint, name + FROZEN)
        changed, frozen = stage(parts, name, self.storage, self._staged)
        unchanged.keep(checkpoint, parts, frozen)
        return Shard(worker, changed.handle, changed.size_bytes, changed.entries, frozen=frozen)

    def _staged(self, name: str, payloads: Sequence[Payload]) -> DataFile:
        file = self.storage.stage(self.journal.state.generation, name)
        entries, size = write_share(payloads, file, threads=1)
        return DataFile(file.seal(), size, entries)

    def _state(self, worker: int, value: float, workers: int) -> StagedState:
        payload = Payload("own", DT_FLOAT, (10,), np.full(10, value + worker, np.float32).view(np.uint8))
        name = f"{self.rounds}-{worker}"
        return stage_state([payload], self.storage, self.journal.state.generation, name, workers, 1)


def _payload(name: str, value: float) -> Payload:
    return Payload(name, DT_FLOAT, (100,), np.full(100, value, np.float32).view(np.uint8))


def start(
    storage: Storage,
    keep: int | None = None,
    directory: str = "/job",
    hours: float | None = None,
    clock: Callable[[], float] = time.time,
    *,
    linking: bool = False,
) -> Chief:
    """What a new chief does: the next generation, recovery, a committer."""
    journal = Journal.open(storage)
    journal.begin(job="job", process=this_process(), world=(), timestamp=0.0)
    preserved = recover(storage, journal, directory, now=clock())
    policy, preservation = KeepLatest(keep), Preservation(hours)
    committer = Committer(storage, journal, "job", policy, preserved, clock=clock, preservation=preservation)
    return Chief(storage, journal, committer, unchanged={} if linking else None)


def values(storage: Storage, *, own_names: bool = False) -> dict[int, float]:
    """What a reader finds: the value of each live checkpoint, by step, after every checksum was compared. `own_names`:
    what a restore finds.
    """
    found = {}
    for checkpoint in Journal.open(storage).state.live:
        name = checkpoint.name
        files = under_own_names(storage, name, checkpoint.manifest_sha256) if own_names else storage
        assert verify(files, name) == []
        (value,) = set(np.frombuffer(BundleReader(files, name).read("tensor-0").data, np.float32))
        found[checkpoint.step] = float(value)
    return found
