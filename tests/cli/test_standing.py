"""How a job stands, in words: on paper, in a pipe, and on a terminal of any height."""

from __future__ import annotations

import io
import time
from dataclasses import replace

import pytest
from rich.console import Console

from distckpt.cli.following import Following
from distckpt.cli.screen import standing
from distckpt.cli.standing import age, lines
from distckpt.observe.picture import CheckpointView, PartView, Picture, SaveView, TroubleView, WorkerView

FAILED = SaveView(1, 100, "ckpt-100", "aborted", 40.0, ended_at=42.5, cause="WorkerLost", message="worker 1 is lost")
PARTS = (PartView(0, 95.0, 98.0, 500_000, 500_000, 0.004), PartView(1, 95.5, None, 125_000, 500_000))
SAVING = SaveView(2, 200, "ckpt-200", "writing", 95.0, 96.0, parts=PARTS)
PICTURE = Picture(
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
    saves=(FAILED, SAVING),
    troubles=(TroubleView(42.5, "WorkerLost", "worker 1 is lost"),),
    checkpoints=(CheckpointView("ckpt-50", 50, 10.0, 2, 1_000_000, {"loss": 0.5}, ("the newest",)),),
)


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def test_the_standing_tells_all_that_matters() -> None:
    assert list(lines(PICTURE)) == [
        "job digits, generation 3: 1 of 2 workers are there",
        "last commit: ckpt-50, 1.0 MB, 1 min ago",
        "in flight: ckpt-200: writing, begun 5.0 s ago, 625.0 KB of 1.0 MB written",
        "",
        "WORKER  STATE           STEP  STEPS/S  LAST STALL  WHERE                  SAVE IN FLIGHT",
        "     0  present          205     12.5        4 ms  10.0.0.0:2222, pid 17  wrote 500.0 KB",
        "     1  lost for 1 min   204        -           -  10.0.0.1:2222, pid 18  125.0 KB of 500.0 KB",
        "",
        "CHECKPOINT    AGE    SIZE  METRICS   KEPT",
        "ckpt-50     1 min  1.0 MB  loss=0.5  the newest",
        "",
        "00:00:42  WorkerLost: worker 1 is lost",
    ]


def test_what_the_journal_alone_knows_is_told_with_the_reason() -> None:
    told = list(lines(Picture("journal", "/run", 100.0, "job digits has ended", "digits", 3, 2)))
    assert told == [
        "job digits, generation 3: not running, or out of reach: job digits has ended",
        "nothing is committed yet",
    ]


def test_a_follower_tells_each_thing_once() -> None:
    following = Following()
    first = list(following.news(PICTURE))
    assert first == [
        "00:01:40  job digits, generation 3: 1 of 2 workers are there",
        "00:01:40  last commit: ckpt-50, 1.0 MB, 1 min ago",
        "00:01:35  ckpt-200: writing",
    ]
    assert list(following.news(replace(PICTURE, at=101.0))) == []
    done = replace(SAVING, phase="committed", ended_at=101.5, bytes=1_000_000)
    after = replace(PICTURE, at=102.0, saves=(FAILED, done))
    assert list(following.news(after)) == ["00:01:41  ckpt-200 is committed after 6.5 s, 1.0 MB"]
    failed = replace(FAILED, round=3, step=300, ended_at=103.0)
    assert list(following.news(replace(after, saves=(done, failed)))) == [
        "00:01:43  the save of step 300 failed after 1 min: WorkerLost: worker 1 is lost"
    ]


def test_a_follower_goes_over_a_restart_whose_rounds_count_from_one_again() -> None:
    following = Following()
    list(following.news(PICTURE))
    again = replace(PICTURE, generation=4, saves=(replace(SAVING, round=1, name="ckpt-150"),))
    assert list(following.news(again)) == [
        "00:01:40  job digits, generation 4: 1 of 2 workers are there",
        "00:01:35  ckpt-150: writing",
    ]


def drawn(picture: Picture, height: int) -> str:
    console = Console(file=io.StringIO(), width=100, height=height, force_terminal=False)
    console.print(standing(picture, height))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_screen_has_a_bar_for_each_worker_that_writes() -> None:
    shown = drawn(PICTURE, 40)
    assert "125.0 KB of 500.0 KB" in shown
    assert shown.count("━") == 24 + 24 // 4  # whole, and a quarter
    assert "WorkerLost: worker 1 is lost" in shown


def test_of_many_workers_those_in_trouble_are_shown_first() -> None:
    many = tuple(WorkerView(number, "lost" if number == 999 else "present") for number in range(1000))
    shown = drawn(replace(PICTURE, workers=many), 30)
    assert len(shown.splitlines()) <= 30
    assert "999" in shown
    assert "more" in shown


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (-1.0, "0.0 s"),
        (0.44, "0.4 s"),
        (42.2, "42 s"),
        (200.0, "3 min"),
        (18_600.0, "5 h 10 min"),
        (180_000.0, "2 d 2 h"),
    ],
)
def test_ages_are_told_as_people_tell_them(seconds: float, told: str) -> None:
    assert age(seconds) == told
