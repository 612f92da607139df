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
from distckpt.observe.picture import Picture
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
