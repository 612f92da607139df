"""One worker of a real TensorFlow job is killed in the middle of a save: the others end, and the save is committed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

import distckpt
from distckpt.launch.cluster import free_ports, worker_environment
from distckpt.launch.job import JobSpec, LocalJob

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("dying_job.py")
SAVED, ROWS = 3, 50_000  # as the script says
DEADLINE_S = 150


@pytest.fixture
def environ() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}


@pytest.fixture
def run(tmp_path: Path, environ: dict[str, str]) -> Iterator[Any]:
    """Runs the job to the end of all its workers; returns their exit codes and what they wrote to stderr."""
    running: list[subprocess.Popen[str]] = []

    def run(victim: int, workers: int) -> tuple[list[int], list[str]]:
        ports = free_ports(workers)
        command = [sys.executable, str(SCRIPT), str(tmp_path / "checkpoints"), str(victim)]
        environs = [worker_environment(environ, ports, index, "dying", 0) for index in range(workers)]
        running.extend(subprocess.Popen(command, env=each, stderr=subprocess.PIPE, text=True) for each in environs)
        told = [worker.communicate(timeout=DEADLINE_S)[1] for worker in running]
        return [worker.returncode for worker in running], told

    yield run
    for worker in running:
        worker.kill()
        worker.wait()


@pytest.mark.timeout(DEADLINE_S + 60)
def test_the_save_in_flight_is_committed_before_the_last_process_ends(run: Any, tmp_path: Path) -> None:
    codes, told = run(1, 2)
    assert codes[1] == -signal.SIGKILL
    assert codes[0] != 0, "its training step failed, and it ended by that"
    assert_saved_without(1, tmp_path / "checkpoints", told[0][-4000:])


@pytest.mark.timeout(2 * DEADLINE_S)
def test_under_distckpt_run_the_chiefs_death_costs_no_save_in_flight(tmp_path: Path, environ: dict[str, str]) -> None:
    lines: list[str] = []
    said: list[str] = []
    command = (sys.executable, str(SCRIPT), str(tmp_path / "checkpoints"), "0")
    spec = JobSpec(command, 2, environ, max_restarts=1)
    code = LocalJob(spec, lambda _worker, _stream, line: lines.append(line.decode()), said.append).run()
    told = "\n".join([*said, *lines[-40:]])
    assert code == 0, told
    assert said[0] == (
        f"worker 0 was killed by SIGKILL: the others first finish the save of step {SAVED}, for at most 120 s"
    )
    assert [line for line in lines if "goes on" in line] == [f"goes on from step {SAVED}"] * 2
    assert_saved_without(0, tmp_path / "checkpoints", told)


def assert_saved_without(victim: int, directory: Path, told: str) -> None:
    catalog = distckpt.Catalog(directory)
    assert [each.step for each in catalog.checkpoints] == [SAVED], told
    assert catalog.verify(SAVED) == []
    manifest = catalog.manifest(SAVED)
    assert manifest is not None
    assert set(manifest.workers) == {1 - victim}
    reader = tf.train.load_checkpoint(str(directory))
    weights = reader.get_tensor("training/weights/.ATTRIBUTES/VARIABLE_VALUE")
    assert weights.shape == (ROWS, 4)
    assert (weights == SAVED).all(), "the values of that step, not of a step that was cut short"
