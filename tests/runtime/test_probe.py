"""`distckpt probe`: what a scheduler's exec probes run, of the job and of one worker."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from distckpt.cli.main import main
from distckpt.observe.step_file import VARIABLE, StepFile, Steps, read_steps


def test_a_coordinator_that_answers_is_well(job: Any, capsys: pytest.CaptureFixture[str]) -> None:
    job.start(2, job="digits")
    assert main(["probe", str(job.directory)]) == 0
    assert capsys.readouterr().out == "job digits, generation 1: workers 0, 1 of 2 are here\n"
    job.stop()
    assert main(["probe", str(job.directory)]) == 1
    assert "has ended" in capsys.readouterr().err


@pytest.fixture
def step_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "steps"
    monkeypatch.setenv(VARIABLE, str(path))
    return path


def test_a_worker_is_well_as_long_as_it_makes_steps(step_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "--hang-timeout", "60"]) == 0, "it has not come to its first step"
    worker = StepFile({VARIABLE: str(step_file)})
    worker.step(81)
    assert main(["probe", "--hang-timeout", "60"]) == 0
    told = read_steps(str(step_file))
    long_ago = Steps(0, 0, 81, 1.0, 81, time.monotonic() - 61, told.pid, told.started)
    step_file.write_bytes(long_ago.encode())
    assert main(["probe", "--hang-timeout", "60"]) == 1
    assert capsys.readouterr().out == "no step for 61 s, the last was 81\n"
    worker.close()
    assert main(["probe", "--hang-timeout", "60"]) == 0, "the training is over"


def test_what_a_worker_told_that_lives_no_more_is_not_held_against_the_next(step_file: Path) -> None:
    """A file in a pod's volume outlasts the container that wrote it."""
    code = "import os; from distckpt.observe.step_file import StepFile; StepFile(os.environ).step(1)"
    subprocess.run([sys.executable, "-c", code], check=True)
    told = read_steps(str(step_file))
    assert told.last == 1
    step_file.write_bytes(Steps(0, 0, 1, 1.0, 1, 1.0, told.pid, told.started).encode())
    assert main(["probe", "--hang-timeout", "60"]) == 0


def test_a_probe_without_a_question_or_an_answer_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert main(["probe"]) == 1
    assert "nothing to probe" in capsys.readouterr().err
    assert main(["probe", "--hang-timeout", "60"]) == 1
    assert "DISTCKPT_STEP_FILE is not set" in capsys.readouterr().err
