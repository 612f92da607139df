"""A chief's storage work without workers: shards of arrays, in memory or in a real directory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from distckpt.bundle.payload import Payload
from distckpt.bundle.reader import BundleReader
from distckpt.bundle.verify import verify
from distckpt.bundle.writer import write_share
from distckpt.commit.committer import Committer
from distckpt.commit.recovery import recover
from distckpt.journal.log import Journal
from distckpt.journal.process import this_process
from distckpt.model import Shard, StagedState
from distckpt.protocol.effects import Commit
from distckpt.protocol.retention import KeepLatest, Preservation
from distckpt.runtime.worker_state import stage_state
from distckpt.storage.interface import Storage

DT_FLOAT = 1


@dataclass
class Chief:
    """One generation of the job, from its recovery on."""

    storage: Storage
    journal: Journal
    committer: Committer
    rounds: int = 0

    def commit(
        self, step: int, value: float, workers: int = 2, name: str | None = None, states: tuple[int, ...] = ()
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
        return self.committer.commit(request)[1]

    def _shard(self, worker: int, value: float) -> Shard:
        data = np.full(100, value, np.float32).view(np.uint8)
        file = self.storage.stage(self.journal.state.generation, f"{self.rounds}-{worker}")
        entries, size = write_share([Payload(f"tensor-{worker}", DT_FLOAT, (100,), data)], file, threads=1)
        return Shard(worker, file.seal(), size, entries)

    def _state(self, worker: int, value: float, workers: int) -> StagedState:
        payload = Payload("own", DT_FLOAT, (10,), np.full(10, value + worker, np.float32).view(np.uint8))
        name = f"{self.rounds}-{worker}"
        return stage_state([payload], self.storage, self.journal.state.generation, name, workers, 1)


def start(
    storage: Storage,
    keep: int | None = None,
    directory: str = "/job",
    hours: float | None = None,
    clock: Callable[[], float] = time.time,
) -> Chief:
    """What a new chief does: the next generation, recovery, a committer."""
    journal = Journal.open(storage)
    journal.begin(job="job", process=this_process(), world=(), timestamp=0.0)
    preserved = recover(storage, journal, directory, now=clock())
    policy, preservation = KeepLatest(keep), Preservation(hours)
    committer = Committer(storage, journal, "job", policy, preserved, clock=clock, preservation=preservation)
    return Chief(storage, journal, committer)


def values(storage: Storage) -> dict[int, float]:
    """What a reader finds: the value of each live checkpoint, by step, after every checksum was compared."""
    found = {}
    for checkpoint in Journal.open(storage).state.live:
        assert verify(storage, checkpoint.name) == []
        (value,) = set(np.frombuffer(BundleReader(storage, checkpoint.name).read("tensor-0").data, np.float32))
        found[checkpoint.step] = float(value)
    return found
