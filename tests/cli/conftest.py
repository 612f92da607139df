"""Directories as a job leaves them, by the real journal, committer and writer; the command line as a process."""

import os
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from distckpt.bundle.payload import Payload
from distckpt.bundle.writer import write_share
from distckpt.commit.committer import Committer
from distckpt.journal.log import Journal
from distckpt.journal.records import Process
from distckpt.model import DataFile, Shard
from distckpt.protocol.effects import Commit
from distckpt.protocol.retention import KeepLatest
from distckpt.runtime.worker_state import stage_state
from distckpt.storage.posix import PosixStorage

WORKERS = 2
FLOAT32 = 1
VALUES = 1000
DEADLINE_S = 60


class Job:
    """One generation that saves: each worker writes one tensor of `VALUES` floats."""

    def __init__(self, directory: Path, max_to_keep: int | None = None) -> None:
        self.directory = directory
        storage = PosixStorage.create(directory)
        journal = Journal.open(storage)
        journal.begin(job="digits", process=Process("here", 1), world=("a:1", "b:2"), timestamp=0.0)
        self._storage = storage
        self._last: tuple[Shard, ...] = ()
        self.committer = Committer(storage, journal, "digits", KeepLatest(max_to_keep), 0.0)

    def save(self, step: int, metrics: Mapping[str, float] | None = None, states: Collection[int] = ()) -> None:
        """`states` are the workers that have a state of their own."""
        shards = tuple(self._share(step, worker, own=worker in states) for worker in range(WORKERS))
        self._last = shards
        self.committer.commit(Commit(step, step, f"ckpt-{step}", shards, metrics or {}))

    def save_unchanged(self, step: int) -> None:
        """Every worker links what it wrote last."""
        generation = self.committer.journal.state.generation
        shards = []
        for shard in self._last:
            handle = self._storage.stage_link(shard.handle, generation, f"{step}-{shard.worker}")
            frozen = DataFile(handle, shard.size_bytes, shard.entries, linked=True)
            shards.append(Shard(shard.worker, "", 0, (), frozen=frozen))
        self.committer.commit(Commit(step, step, f"ckpt-{step}", tuple(shards), {}))

    def _share(self, step: int, worker: int, *, own: bool) -> Shard:
        values = np.full(VALUES, step, np.float32).view(np.uint8)
        file = self._storage.stage(self.committer.journal.state.generation, f"{step}-{worker}")
        entries, size = write_share([Payload(f"layer-{worker}", FLOAT32, (VALUES,), values)], file, threads=1)
        shard = Shard(worker, file.seal(), size, entries)
        if not own:
            return shard
        payload = Payload("iterator", FLOAT32, (VALUES,), values)
        generation = self.committer.journal.state.generation
        return replace(shard, state=stage_state([payload], self._storage, generation, f"{step}-{worker}", WORKERS, 1))


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job in an empty directory, not having saved yet."""
    return Job(tmp_path / "checkpoints")


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def distckpt() -> Command:
    """Runs `distckpt` with the given arguments, in a process in which importing TensorFlow fails."""
    code = "import sys; sys.modules['tensorflow'] = None; from distckpt.cli.main import main; sys.exit(main())"

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
            env={**os.environ, "TZ": "UTC"},
        )

    return run


@pytest.fixture
def contents() -> Callable[[Path], dict[str, tuple[bytes, int]]]:
    """All files below a directory, with their content and time of change."""

    def read(directory: Path) -> dict[str, tuple[bytes, int]]:
        files = [path for path in directory.rglob("*") if path.is_file()]
        return {str(path.relative_to(directory)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}

    return read
