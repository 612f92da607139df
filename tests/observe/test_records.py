"""Log records: a sentence for people, and documented fields for programs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from distckpt.observe import happenings as h
from distckpt.observe.records import record

ENDED = h.SaveEnded(3, 100, "ckpt-100", "committed", "", "", None, 5_000_000, 1.5, 0.25, 9.0)
FAILED = h.SaveEnded(4, 200, "ckpt-200", "aborted", "WorkerLost", "worker 1 is lost", 1, 0, 1.5, None, None)
OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """What the logger hands on."""
    made: list[logging.LogRecord] = []
    logger, handler = logging.getLogger("distckpt.events"), logging.Handler()
    handler.emit = made.append  # type: ignore[method-assign]  # all that a handler must do
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield made
    logger.setLevel(logging.NOTSET)
    logger.removeHandler(handler)


def test_a_record_has_a_sentence_and_every_field(records: list[logging.LogRecord]) -> None:
    record(ENDED)
    (made,) = records
    assert (made.levelname, made.getMessage()) == ("INFO", "ckpt-100 is committed: 5.0 MB in 1.500 s")
    assert vars(made)["distckpt_event"] == "save_ended"
    assert {f"distckpt_{each.name}": getattr(ENDED, each.name) for each in fields(ENDED)}.items() <= vars(made).items()


@pytest.mark.parametrize(
    ("happening", "level"),
    [
        (FAILED, "WARNING"),
        (h.WorkerLost(1, 15.0), "WARNING"),
        (h.SetAside("ckpt-1", "bytes differ"), "WARNING"),
        (h.RestoreEnded(1, "latest", "", "NoRestorableCheckpoint", "none is left", 1.0), "WARNING"),
        (h.ChiefFenced("Fenced", "generation 2 has begun"), "ERROR"),
        (h.RestoreEnded(1, "latest", "ckpt-1", "", "", 1.0), "INFO"),
        (h.WorkerLeft(1, ""), "INFO"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value,
)
def test_what_went_wrong_is_a_warning_and_the_fence_an_error(
    happening: h.Happening, level: str, records: list[logging.LogRecord]
) -> None:
    record(happening)
    assert [made.levelname for made in records] == [level]


def test_the_cause_stands_in_the_sentence(records: list[logging.LogRecord]) -> None:
    record(FAILED)
    assert records[0].getMessage() == "the save of step 200 failed after 1.500 s: WorkerLost: worker 1 is lost"


def test_steps_are_too_many_to_be_logged(records: list[logging.LogRecord]) -> None:
    record(h.StepEnded(1, 0.1))
    assert records == []


def test_every_kind_of_record_and_every_field_is_documented() -> None:
    told = OPERATIONS.read_text()
    for kind in h.Happening.__args__:
        if kind is not h.StepEnded:
            assert f"`{kind.event}`" in told
            for each in fields(kind):
                assert f"`{each.name}`" in told, f"{kind.event}: {each.name}"
