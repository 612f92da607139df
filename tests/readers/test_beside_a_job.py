"""Evaluators in processes of their own, beside a job that saves as fast as it can and keeps one checkpoint."""

from __future__ import annotations

import signal
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from distckpt import Catalog

READ = 200


def steps_of(evaluator: Any) -> list[int]:
    """What an evaluator that has ended printed; its errors are this test's."""
    out, errors = evaluator.communicate(timeout=120)
    assert evaluator.returncode == 0, errors
    return [int(line) for line in out.split()]


def next_saves(job: Any, number: int) -> list[int]:
    return [int(line.split()[1]) for line in islice(job.stdout, number)]


@pytest.mark.parametrize("way", ["newest", "every"])
def test_hundreds_of_checkpoints_are_read_whole_while_the_job_retires_each_after_the_next(
    way: str, start: Any, directory: Path
) -> None:
    directory.mkdir()
    evaluator = start("evaluator", directory, way, READ)
    job = start("saving_job", directory, 0)
    saved: list[int] = []
    while evaluator.poll() is None:
        saved += next_saves(job, 20)
    steps = steps_of(evaluator)
    assert len(steps) == READ
    assert steps == sorted(set(steps))
    if way == "every":
        assert steps == list(range(1, READ + 1))
    job.communicate(timeout=60)
    assert job.returncode == 0
    assert len(saved) >= READ


def test_a_held_checkpoint_stays_for_as_long_as_it_is_held_and_no_longer(start: Any, directory: Path) -> None:
    job = start("saving_job", directory, 0)
    next_saves(job, 3)
    evaluator = start("evaluator", directory, "hold", 1)
    held = int(evaluator.stdout.readline())
    next_saves(job, 50)
    assert held in [each.step for each in Catalog(directory).checkpoints]
    assert Catalog(directory).verify(held) == []
    evaluator.communicate("", timeout=60)
    assert evaluator.returncode == 0, "what it held until now is whole"
    job.communicate("", timeout=60)
    (left,) = Catalog(directory).checkpoints
    assert left.step > held
    assert [path.name for path in directory.glob("*.index")] == [f"{left.name}.index"]


def test_a_lease_of_a_killed_evaluator_ends_and_its_checkpoint_is_retired(start: Any, directory: Path) -> None:
    job = start("saving_job", directory, 0)
    next_saves(job, 3)
    evaluator = start("evaluator", directory, "hold", 1)
    held = int(evaluator.stdout.readline())
    next_saves(job, 20)
    assert (directory / f"ckpt-{held}.index").exists()
    evaluator.send_signal(signal.SIGKILL)
    evaluator.wait()
    job.communicate("", timeout=60)
    assert job.returncode == 0
    (left,) = Catalog(directory).checkpoints
    assert left.step > held
    assert [path.name for path in directory.glob("*.index")] == [f"{left.name}.index"]
    assert not list((directory / ".distckpt").glob("leases/*"))
