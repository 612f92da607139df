"""A generation by hand, for a directory whose job has ended: it takes over, recovers, does its work, and leaves.

Fenced as any other: refused while the job lives, and lost against one that starts meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

from distckpt.commit.recovery import recover
from distckpt.journal.leases import LeaseWatch
from distckpt.journal.liveness import Pulse, claim
from distckpt.journal.log import Journal
from distckpt.journal.process import this_process
from distckpt.journal.state import JournalState
from distckpt.storage.interface import Storage


@dataclass(frozen=True, slots=True)
class Taken:
    """`last_preserved` is the time of TensorFlow's last preserved checkpoint, in seconds since the epoch."""

    job: str
    journal: Journal
    watch: LeaseWatch
    last_preserved: float


@contextmanager
def taken_over(storage: Storage, directory: str, purpose: str) -> Iterator[Taken]:
    """While the body runs the directory is this process's, recovered; then it is free for the job's next start.

    `directory` is the path as TensorFlow's state file may spell it. Waits until it is known of each lease whether its
    holder lives. Raises DirectoryInUse, Fenced, StorageError, OutcomeUnknown, CorruptData.
    """
    job = f"{purpose}-{uuid4().hex}"  # never the same job as the one before: that one, if it lives, is not taken over
    journal = Journal.open(storage)
    journal.begin(
        job=job,
        process=this_process(),
        world=(),
        timestamp=time.time(),
        admit=lambda state: _admit(storage, job, state),
    )
    watch = LeaseWatch(storage)
    watch.observe()
    yield Taken(job, journal, watch, recover(storage, journal, directory, watch.held))
    begun = journal.state.begun
    assert begun is not None, "it was begun above"
    Pulse(storage, begun).close()


def _admit(storage: Storage, job: str, state: JournalState) -> None:
    claim(storage, job, state.begun)
