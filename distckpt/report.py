"""What people are told: what a save cost, and how a running job is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SaveReport:
    """What a save cost. `bytes` are those of all data files, `bytes_by_worker[i]` what worker i wrote of them; what
    workers have for themselves (`worker_state=`) is not counted.

    Only the chief knows that: on the other workers `bytes` is what they wrote themselves, `bytes_by_worker` is empty.
    `blocking_s`: how long the training thread was held; `commit_s`: from the call of save to the commit; both in
    seconds.
    """

    step: int
    name: str
    bytes: int
    bytes_by_worker: tuple[int, ...]
    blocking_s: float
    commit_s: float


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job that is running, as its coordinator sees it.

    `present`: the workers that have joined, and have not left or been lost.
    """

    job: str
    generation: int
    world_size: int
    present: tuple[int, ...]
