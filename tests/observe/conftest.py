"""A coordinator on the stage of tests/protocol, watched by a chronicle."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "protocol"))

from staged.stage import GENERATION, JOB, Stage

from distckpt.model import Checkpoint
from distckpt.observe.chronicle import Chronicle
from distckpt.observe.happenings import Happening
from distckpt.observe.picture import CheckpointView, PartView, Picture, SaveView, TroubleView, WorkerView
from distckpt.runtime.observer import Opening, Tapped

EPOCH = 1_000_000.0
"""The stage's clock begins at this time of the wall's."""


class Watched:
    """`stage` and its `chronicle`; `told`: what happened, oldest first."""

    def __init__(self, workers: int, checkpoints: Sequence[Checkpoint]) -> None:
        self.stage = Stage(workers, checkpoints)
        self.told: list[Happening] = []
        self.opening = Opening("/run", JOB, GENERATION, workers, tuple(checkpoints), self.stage.coordinator)
        self.chronicle = Chronicle(self.opening, self.told.append)
        tapped: Any = Tapped(self.stage.coordinator, self.chronicle.coordinator_did)
        self.stage.coordinator = tapped

    def take(self, *kinds: type) -> list[Any]:
        """What happened since the last call, of these kinds."""
        taken, self.told[:] = [each for each in self.told if isinstance(each, kinds or object)], []
        return taken

    def picture(self) -> Picture:
        return self.chronicle.picture(self.stage.now, EPOCH + self.stage.now)


@pytest.fixture
def watch() -> Callable[..., Watched]:
    """Begins a job of so many workers, all of them there."""

    def begin(workers: int = 2, checkpoints: Sequence[Checkpoint] = ()) -> Watched:
        watched = Watched(workers, checkpoints)
        watched.stage.start_all()
        watched.take()
        return watched

    return begin


@pytest.fixture
def saving() -> Picture:
    """A job of two workers in the middle of a save, after one that failed."""
    failed = SaveView(
        1, 100, "ckpt-100", "aborted", 40.0, ended_at=42.5, cause="WorkerLost", message="worker 1 is lost"
    )
    parts = (PartView(0, 95.0, 98.0, 500_000, 500_000, 0.004), PartView(1, 95.5, None, 125_000, 500_000))
    return Picture(
        source="live",
        directory="/run",
        at=100.0,
        job="digits",
        generation=3,
        world_size=2,
        workers=(
            WorkerView(0, "present", "10.0.0.0:2222", 17, 205, 12.5, 0.1, 0.004),
            WorkerView(1, "lost", "10.0.0.1:2222", 18, 204, None, 75.0),
        ),
        saves=(failed, SaveView(2, 200, "ckpt-200", "writing", 95.0, 96.0, parts=parts)),
        troubles=(TroubleView(42.5, "WorkerLost", "worker 1 is lost"),),
        checkpoints=(CheckpointView("ckpt-50", 50, 10.0, 2, 1_000_000, {"loss": None}, ("the newest",)),),
    )
