"""What a save cost, as the manager tells it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SaveReport:
    """What a save cost. `bytes` are those of all data files, `bytes_by_worker[i]` what worker i wrote of them.

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
