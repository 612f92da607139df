"""What the demo makes of its workers' lines. The demo itself runs in CI: `make demo`."""

import json
from typing import Any

import pytest

from distckpt.launch.demo_events import STDERR_LINES, History, Saved
from distckpt.launch.demo_report import sentence, table

SAVED: dict[str, Any] = {
    "event": "saved",
    "step": 20,
    "name": "ckpt-20",
    "bytes": 9_012_514,
    "bytes_by_worker": [4_506_866, 4_505_648],
    "blocking_s": 0.0019,
    "commit_s": 0.1813,
}


def line(**event: object) -> bytes:
    return json.dumps(event).encode()


def test_the_history_is_the_chiefs() -> None:
    history = History()
    for worker in (1, 0):
        history.add(worker, "stdout", line(**SAVED))
        history.add(worker, "stdout", line(event="resumed", step=20))
        history.add(worker, "stdout", line(event="done", step=40, accuracy=0.9 + worker))
    assert history.saved == [Saved(20, 9_012_514, (4_506_866, 4_505_648), 0.0019, 0.1813)]
    assert history.resumed_at == [20]
    assert history.accuracy == 0.9


def test_what_is_no_event_is_kept_for_when_something_goes_wrong() -> None:
    history = History()
    for text in (b"Traceback", b"\xff", b"{}", b'{"event"', b"17", b'["event"]'):
        assert history.add(1, "stdout", text) is None
    assert list(history.stderr)[:2] == ["[worker 1] Traceback", "[worker 1] \ufffd"]
    assert len(history.stderr) == 6
    for count in range(1000):
        history.add(0, "stderr", b"%d" % count)
    assert len(history.stderr) == STDERR_LINES


def test_an_event_on_stderr_is_none() -> None:
    history = History()
    assert history.add(0, "stderr", line(**SAVED)) is None
    assert history.saved == []


@pytest.mark.parametrize(
    ("event", "text"),
    [
        ({"event": "started", "worker": 0}, "worker 0 has joined the cluster"),
        ({"event": "step", "step": 40, "loss": 0.12345}, "step 40: loss 0.1235"),
        ({"event": "step", "step": 41, "loss": 0.12345}, None),
        (SAVED, "step 20 committed: 9.0 MB in 181.3 ms; the training waited 1.9 ms"),
        ({"event": "log", "level": "WARNING", "text": "lost"}, "worker 0: warning: lost"),
        ({"event": "unheard of"}, None),
    ],
)
def test_events_are_told_in_sentences(event: dict[str, Any], text: str | None) -> None:
    assert sentence(0, event) == text


def test_what_all_workers_do_is_told_once() -> None:
    assert sentence(1, SAVED) is None


def test_the_table_has_a_line_for_each_checkpoint_and_a_column_for_each_worker() -> None:
    saved = [Saved(20, 3000, (2000, 1000), 0.001, 0.25), Saved(100, 3000, (2000,), 0.5, 1.0)]
    assert table(saved) == [
        "STEP  BYTES  BY WORKER 0  BY WORKER 1  TRAINING WAITED  COMMITTED AFTER",
        "  20  3,000        2,000        1,000           1.0 ms         250.0 ms",
        " 100  3,000        2,000                      500.0 ms        1000.0 ms",
    ]
