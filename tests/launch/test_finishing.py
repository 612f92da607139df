"""A worker dies under the launcher in the middle of a save: the others finish it, and the next start goes on from it.

Real processes, sockets and files, without TensorFlow (tests/faults/test_dying_job.py has it).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distckpt.catalog import Catalog
from distckpt.runtime.in_hand import VARIABLE, InHand, in_hand

RunJob = Callable[..., Any]  # the fixture in conftest.py
WORKERS = Path(__file__).parents[1] / "faults"

# The victim dies in the middle of the first save of the first start. The other one does not end by itself then, as if
# in a collective; so that it ends at all, the launcher must have seen that the save is over.
TRAINING = """
import json, os, signal, sys
sys.path.insert(0, {workers!r})
import job_worker
index, attempt = json.loads(os.environ["TF_CONFIG"])["task"]["index"], os.environ["DISTCKPT_RESTARTS"]
told = dict(directory={directory!r}, board={directory!r} + attempt, index=index, count=2, steps=[int(attempt) + 1])
if attempt == "0" and index == {victim}:
    told["die"] = dict(at=3, step=1)
sys.argv[1:] = [json.dumps(told)]
job_worker.main()
if attempt == "0":
    signal.pause()
"""


@pytest.mark.parametrize("victim", [0, 1])
def test_the_save_in_flight_is_finished_before_the_others_are_stopped(
    victim: int, run_job: RunJob, tmp_path: Path
) -> None:
    directory = tmp_path / "checkpoints"
    program = TRAINING.format(workers=str(WORKERS), directory=str(directory), victim=victim)
    outcome = run_job(program, max_restarts=1)
    assert outcome.code == 0, outcome.texts()
    assert outcome.said[:2] == [
        f"worker {victim} was killed by SIGKILL: the others first finish the save of step 1, for at most 120 s",
        "that has ended: stopping the others",
    ]
    told = [json.loads(line) for who, stream, line in outcome.lines if (who, stream) == (1 - victim, "stdout")]
    assert told == [
        {"live": []},
        {"step": 1, "outcome": "committed"},
        {"live": ["ckpt-1"]},
        {"step": 2, "outcome": "committed"},
    ], "the next start goes on from that very save"
    assert Catalog(directory).verify(1) == []


def test_what_a_dead_worker_had_in_hand_holds_nobody_up(run_job: RunJob) -> None:
    program = """
import json, os, signal
from distckpt.runtime.in_hand import InHand
index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
if index == 1:
    InHand(os.environ).begin("the save of step 1")
    os.kill(os.getpid(), signal.SIGKILL)
signal.pause()
"""
    assert run_job(program).said == ["worker 1 was killed by SIGKILL: stopping the others"]


def test_each_agent_of_a_worker_tells_of_its_own_work(tmp_path: Path) -> None:
    one, other = InHand({VARIABLE: str(tmp_path)}), InHand({VARIABLE: str(tmp_path)})
    one.begin("the save of step 1")
    other.begin("the save of step 2")
    one.end()
    one.end()
    assert in_hand(tmp_path) == ["the save of step 2"]


def test_a_worker_that_cannot_tell_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    InHand({}).begin("the save of step 1")
    assert not caplog.records
    agent = InHand({VARIABLE: str(tmp_path / "absent")})
    agent.begin("the save of step 1")
    agent.end()
    assert len(caplog.records) == 1
