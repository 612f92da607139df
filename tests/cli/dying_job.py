"""A job without TensorFlow that commits steps 1 and 2, keeping one, and is killed (SIGKILL) while it saves step 3.

Arguments: the directory; the operation before which it dies; a part of that operation's key.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from pathlib import Path

import numpy as np

from distckpt.bundle.payload import Payload
from distckpt.bundle.writer import write_share
from distckpt.commit.committer import Committer
from distckpt.journal.log import Journal
from distckpt.journal.process import this_process
from distckpt.model import Shard
from distckpt.protocol.effects import Commit
from distckpt.protocol.retention import KeepLatest
from distckpt.storage.posix import PosixStorage

DIRECTORY, OPERATION, KEY = sys.argv[1:]
FLOAT32 = 1
LAST = 3


def main() -> None:
    path = Path(__file__).parents[1] / "faulty_storage.py"
    spec = importlib.util.spec_from_file_location("faulty_storage", path)
    assert spec is not None
    assert spec.loader is not None
    faulty = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(faulty)
    storage = faulty.FaultyStorage(PosixStorage.create(DIRECTORY))
    journal = Journal.open(storage)
    journal.begin(job="dying", process=this_process(), world=(), timestamp=0.0)
    committer = Committer(storage, journal, "dying", KeepLatest(1), 0.0)

    def die(operation: str, key: str) -> None:
        if operation == OPERATION and KEY in key:
            os.kill(os.getpid(), signal.SIGKILL)

    for step in range(1, LAST + 1):
        if step == LAST:
            storage.before = die
        data = np.full(100, step, np.float32).view(np.uint8)
        file = storage.stage(journal.state.generation, f"{step}-0")
        entries, size = write_share([Payload("tensor", FLOAT32, (100,), data)], file, threads=1)
        committer.commit(Commit(step, step, f"ckpt-{step}", (Shard(0, file.seal(), size, entries),), {}))


if __name__ == "__main__":
    main()
