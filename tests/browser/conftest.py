"""Scenes for the dashboard, and a real browser that looks at them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from distckpt.observe.dashboard import Dashboard
from distckpt.observe.picture import (
    CheckpointView,
    PartView,
    Picture,
    RestoreView,
    SaveView,
    StepsView,
    TroubleView,
    WorkerView,
    encode,
)

NOW = 1_795_200_000.0
MB = 1_000_000
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
LOOK_S = 60.0


def _part(worker: int, begun: float, write_s: float) -> PartView:
    came = begun + 0.02 * worker
    return PartView(worker, came, begun + 0.2 + write_s, 128 * MB, 128 * MB, 0.004 + 0.001 * worker)


def _save(number: int, begun: float) -> SaveView:
    """A save of eight workers, the last of them slow."""
    parts = tuple(_part(worker, begun, 1.1 + 0.1 * worker + (0.9 if worker == 7 else 0.0)) for worker in range(8))
    written = max(part.written_at or 0.0 for part in parts)
    return SaveView(
        number, 500 * number, f"ckpt-{500 * number}", "committed", begun, begun + 0.2, written, written + 0.4,
        bytes=1024 * MB, parts=parts,
    )  # fmt: skip


def _failed(number: int, begun: float) -> SaveView:
    message = "save of step 6500: worker 3 (10.0.0.3:2222, pid 4103; last heard of 2.1 s ago) is lost"
    parts = tuple(replace(_part(worker, begun, 1.4), written_at=None, stall_s=0.01) for worker in range(8))
    return SaveView(
        number, 500 * number, f"ckpt-{500 * number}", "aborted", begun, begun + 0.2, None, begun + 2.4,
        cause="WorkerLost", message=message, parts=parts,
    )  # fmt: skip


def empty() -> Picture:
    """A job that has just begun: two workers, one of them not there."""
    workers = (WorkerView(0, "present", "10.0.0.0:2222", 4100, heard_s=0.2), WorkerView(1, "absent"))
    return Picture(
        "live", "/shared/run-7", NOW, job="digits", generation=1, world_size=2, begun_at=NOW, workers=workers
    )


def saving() -> Picture:
    """Eight workers in the middle of a save, after twelve."""
    saves = [_save(number, NOW - 60.0 * (13 - number)) for number in range(1, 13)]
    begun = NOW - 1.4
    written = (128, 120, 104, 97, 90, 71, 66, 12)
    parts = tuple(
        PartView(worker, begun + 0.02 * worker, NOW - 0.1 if mb == 128 else None, mb * MB, 128 * MB)
        for worker, mb in enumerate(written)
    )
    in_flight = SaveView(13, 6500, "ckpt-6500", "writing", begun, begun + 0.2, parts=parts)
    steps = tuple(
        StepsView(
            NOW - 300 + second, 4000 + 8 * second, 0.118 + 0.004 * (second % 5), 0.6 if second % 60 == 1 else 0.13
        )
        for second in range(1, 300)
    )
    checkpoints = tuple(
        CheckpointView(
            f"ckpt-{step}", step, NOW - (6500 - step) / 500 * 60.0, 3, 1024 * MB + 26_000,
            {"loss": 2.0 / step * 500, "accuracy": 1.0 - 200 / step}, reasons,
        )
        for step, reasons in (
            (2000, ("one every 2000 steps",)),
            (4000, ("one every 2000 steps", "being read by pid 812 on eval-1")),
            (5500, ("one of the last 2",)),
            (6000, ("the newest", "one of the last 2", "the best by loss (min)", "one every 2000 steps")),
        )
    )  # fmt: skip
    workers = tuple(
        WorkerView(n, "present", f"10.0.0.{n}:2222", 4100 + n, 6512 + n % 2, 8.31 + 0.02 * n, 0.3, 0.004 + 0.001 * n)
        for n in range(8)
    )
    return Picture(
        "live", "/shared/run-7", NOW, job="digits", generation=3, world_size=8, begun_at=NOW - 800, workers=workers,
        saves=(*saves, in_flight), restores=(RestoreView("latest", NOW - 799, NOW - 798, "ckpt-500"),), steps=steps,
        checkpoints=checkpoints,
    )  # fmt: skip


def failed() -> Picture:
    """The same job after a worker was lost in a save."""
    before = saving()
    over = _failed(13, NOW - 8.0)
    lost = replace(before.workers[3], presence="lost", heard_s=9.2, steps_per_s=0.0)
    return replace(
        before,
        saves=(*before.saves[:-1], over),
        workers=(*before.workers[:3], lost, *before.workers[4:]),
        troubles=(
            TroubleView(NOW - 4000, "CorruptCheckpoint", "ckpt-1500: weight: 4,096 bytes differ (found by worker 2)"),
            TroubleView(NOW - 5.6, over.cause, over.message),
        ),
    )


def ended() -> Picture:
    """The same job when it is over, as the journal tells it."""
    note = "/shared/run-7: no job runs here: job digits (generation 3, pid 4100 on node-0) has ended"
    return Picture(
        "journal", "/shared/run-7", NOW, note, "digits", 3, 8, NOW - 800,
        checkpoints=tuple(replace(each, kept=()) for each in saving().checkpoints),
    )  # fmt: skip


SCENES = {"empty": empty, "saving": saving, "failed": failed, "ended": ended}


@pytest.fixture
def scenes() -> dict[str, Picture]:
    return {name: make() for name, make in SCENES.items()}


@pytest.fixture
def serve() -> Iterator[Callable[[Picture], Dashboard]]:
    """Dashboards that show one picture."""
    opened: list[Dashboard] = []

    def begin(picture: Picture) -> Dashboard:
        opened.append(Dashboard(lambda: encode(picture), "127.0.0.1", 0))
        return opened[-1]

    yield begin
    for each in opened:
        each.close()


class Browser:
    """`look` opens an address, and gives the page as it then is; `shots` keeps what was seen."""

    def __init__(self, program: str, folder: Path) -> None:
        self.program = program
        self.folder = folder
        kept = os.environ.get("DISTCKPT_SCREENSHOTS")
        self.shots = Path(kept) if kept else folder

    def look(self, address: str, name: str, *, dark: bool = False, refused: bool = False) -> str:
        """The text of the page, without its script and style. `refused`: the browser may report a 401."""
        command = [
            self.program,
            *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--timeout=20000"),
            *("--virtual-time-budget=2500", "--window-size=1180,1500", f"--user-data-dir={self.folder}/profile"),
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            f"--screenshot={self.shots}/{name}.png",
            *("--enable-logging=stderr", "--dump-dom", address),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LOOK_S, check=True)
        complaints = [
            line for line in done.stderr.splitlines() if "CONSOLE" in line and not (refused and "401" in line)
        ]
        assert not complaints, complaints  # a script that failed, or what the page's policy forbade
        return re.sub(r"<(script|style).*?</\1>", "", done.stdout, flags=re.DOTALL)


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium on this machine: `make browser` installs one, and runs this")
    return Browser(found, tmp_path)
