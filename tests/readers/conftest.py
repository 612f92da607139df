"""Jobs and evaluators: as processes, and as a chief in this one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from distckpt.bundle.payload import Payload
from distckpt.bundle.writer import write_share
from distckpt.commit.committer import Committer
from distckpt.commit.recovery import recover
from distckpt.journal.leases import LeaseWatch
from distckpt.journal.log import Journal
from distckpt.journal.process import this_process
from distckpt.model import Shard
from distckpt.protocol.effects import Commit
from distckpt.protocol.retention import KeepLatest
from distckpt.storage.posix import PosixStorage

HERE = Path(__file__).parent
FLOAT32 = 1
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts `saving_job` or `evaluator` with arguments; whoever still runs at the end is killed."""
    running: list[subprocess.Popen[str]] = []

    def run(script: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, str(HERE / f"{script}.py"), *map(str, arguments)]
        running.append(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
        return running[-1]

    yield run
    for each in running:
        if each.poll() is None:
            each.kill()
        each.communicate()


class Job:
    """A chief that saves into `directory` from this thread, each tensor of step S full of S."""

    def __init__(self, directory: Path, keep: int | None = 1) -> None:
        self.storage = PosixStorage.create(directory)
        self.journal = Journal.open(self.storage)
        self.journal.begin(job="job", process=this_process(), world=(), timestamp=0.0)
        leased = LeaseWatch(self.storage).held
        preserved = recover(self.storage, self.journal, str(directory), leased)
        policy = KeepLatest(keep)
        self.committer = Committer(self.storage, self.journal, "job", policy, preserved, leased=leased)
        self._rounds = 0

    def save(self, step: int, **metrics: float) -> None:
        self._rounds += 1
        data = np.full(100, step, np.float32).view(np.uint8)
        file = self.storage.stage(self.journal.state.generation, f"{self._rounds}-0")
        entries, size = write_share([Payload("tensor", FLOAT32, (100,), data)], file, threads=1)
        shard = Shard(0, file.seal(), size, entries)
        self.committer.commit(Commit(self._rounds, step, f"ckpt-{step}", (shard,), metrics))

    @property
    def steps(self) -> list[int]:
        """Those that can be read, whether the journal lists them or not."""
        names = [path.name for path in self.storage.directory.glob("*.index")]
        return sorted(int(name.removeprefix("ckpt-").removesuffix(".index")) for name in names)


@pytest.fixture
def new_job() -> type[Job]:
    return Job


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"
