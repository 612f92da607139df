"""The tree of errors is what its module draws, says what to do, and travels between workers by name."""

from __future__ import annotations

import pytest

from distckpt import errors
from distckpt.errors import CorruptData, DistckptError, SaveAborted, cause_of, error_from
from distckpt.model import Cause


def subclasses(root: type[DistckptError]) -> set[type[DistckptError]]:
    return {root} | {each for child in root.__subclasses__() for each in subclasses(child)}


OURS = sorted((each for each in subclasses(DistckptError) if each.__module__ == errors.__name__), key=str)


def test_the_drawing_shows_every_error_and_no_other() -> None:
    drawing = (errors.__doc__ or "").split("\n\n", 1)[1]
    drawn = {line.lstrip("│├└─ ").split()[0] for line in drawing.splitlines() if line.strip()}
    assert drawn == {each.__name__ for each in OURS}


@pytest.mark.parametrize("error", OURS, ids=lambda each: each.__name__)
def test_every_error_says_what_to_do(error: type[DistckptError]) -> None:
    assert error.advice in {"retry", "give up", "look"}


@pytest.mark.parametrize(
    "error",
    [each for each in OURS if issubclass(each, errors.SaveAborted | errors.FatalError | errors.OutcomeUnknown)],
    ids=lambda each: each.__name__,
)
def test_an_error_that_arose_on_one_worker_is_the_same_on_the_others(error: type[SaveAborted]) -> None:
    arrived = error_from(cause_of(error("worker 3: what went wrong", 3), worker=1))
    assert type(arrived) is error
    assert str(arrived) == "worker 3: what went wrong"
    assert getattr(arrived, "worker", None) == 3


@pytest.mark.parametrize("error", [errors.CorruptCheckpoint, errors.CorruptJournal, errors.NoRestorableCheckpoint])
def test_corruption_stays_corruption_on_its_way(error: type[CorruptData]) -> None:
    arrived = error_from(cause_of(error("ckpt-1.index", "a flipped bit"), worker=0))
    assert type(arrived) is error
    assert "ckpt-1.index: a flipped bit" in str(arrived)


def test_a_full_disk_and_a_bug_are_told_apart_and_name_the_worker() -> None:
    full = error_from(cause_of(errors.StorageNoSpace("no space left", "shard"), worker=2))
    assert (type(full), full.advice) == (errors.StorageFull, "retry")
    bug = error_from(cause_of(ZeroDivisionError("division by zero"), worker=2))
    assert isinstance(bug, errors.WriteFailed)
    assert "worker 2: ZeroDivisionError: division by zero" in str(bug)


def test_a_kind_that_a_later_version_may_send_is_still_an_aborted_save() -> None:
    assert type(error_from(Cause("SomethingNew", "text"))) is SaveAborted
