"""One worker of a real TensorFlow job is killed: the others end, and what they hold in memory is committed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

import distckpt
from distckpt.launch.cluster import free_ports, worker_environment
from distckpt.launch.job import JobSpec, LocalJob

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("dying_job.py")
SAVED, FIRST, KEPT, ROWS = 3, 5, 8, 50_000  # as the script says
WORKERS = 2
DEADLINE_S = 150


@pytest.fixture
def environ() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}


@pytest.fixture
def start(environ: dict[str, str]) -> Iterator[Any]:
    """Starts a job; the function that it returns waits for the end of all workers: their exit codes, and stderr."""
    running: list[subprocess.Popen[str]] = []

    def start(directory: Path, victim: int, moment: str) -> Callable[[], tuple[list[int], list[str]]]:
        ports = free_ports(WORKERS)
        command = [sys.executable, str(SCRIPT), str(directory), str(victim), moment]
        environs = [worker_environment(environ, ports, index, "dying", 0) for index in range(WORKERS)]
        workers = [subprocess.Popen(command, env=each, stderr=subprocess.PIPE, text=True) for each in environs]
        running.extend(workers)

        def wait() -> tuple[list[int], list[str]]:
            told = [worker.communicate(timeout=DEADLINE_S)[1] for worker in workers]
            return [worker.returncode for worker in workers], told

        return wait

    yield start
    for worker in running:
        worker.kill()
        worker.wait()


@pytest.mark.timeout(DEADLINE_S + 60)
def test_the_save_in_flight_is_committed_before_the_last_process_ends(start: Any, tmp_path: Path) -> None:
    codes, told = start(tmp_path / "checkpoints", 1, "saving")()
    assert codes[1] == -signal.SIGKILL
    assert codes[0] != 0, "its training step failed, and it ended by that"
    assert_saved_without(1, tmp_path / "checkpoints", told[0][-4000:])


@pytest.mark.timeout(2 * DEADLINE_S)
def test_the_newest_snapshot_that_was_kept_is_committed_where_no_save_was_in_flight(start: Any, tmp_path: Path) -> None:
    waits = [start(tmp_path / f"without-{victim}", victim, "between") for victim in (0, 1)]  # side by side
    for victim, wait in enumerate(waits):
        codes, told = wait()
        assert codes[victim] == -signal.SIGKILL
        assert codes[1 - victim] != 0, "its training step failed, and it ended by that"
        directory = tmp_path / f"without-{victim}"
        assert_saved_without(victim, directory, told[1 - victim][-4000:], [FIRST, KEPT])


@pytest.mark.timeout(2 * DEADLINE_S)
def test_under_distckpt_run_the_chiefs_death_costs_no_save_in_flight(tmp_path: Path, environ: dict[str, str]) -> None:
    lines: list[str] = []
    said: list[str] = []
    command = (sys.executable, str(SCRIPT), str(tmp_path / "checkpoints"), "0", "saving")
    spec = JobSpec(command, 2, environ, max_restarts=1)
    code = LocalJob(spec, lambda _worker, _stream, line: lines.append(line.decode()), said.append).run()
    told = "\n".join([*said, *lines[-40:]])
    assert code == 0, told
    assert said[0] == (
        f"worker 0 was killed by SIGKILL: the others first finish the save of step {SAVED}, for at most 120 s"
    )
    assert [line for line in lines if "goes on" in line] == [f"goes on from step {SAVED}"] * 2
    assert_saved_without(0, tmp_path / "checkpoints", told)


def assert_saved_without(victim: int, directory: Path, told: str, steps: Sequence[int] = (SAVED,)) -> None:
    """`steps` are committed; the survivor alone wrote the last of them, and it holds the values of that step's end."""
    last = steps[-1]
    catalog = distckpt.Catalog(directory)
    assert [each.step for each in catalog.checkpoints] == list(steps), told
    assert catalog.verify(last) == []
    manifest = catalog.manifest(last)
    assert manifest is not None
    assert set(manifest.workers) == {1 - victim}
    reader = tf.train.load_checkpoint(str(directory))
    weights = reader.get_tensor("training/weights/.ATTRIBUTES/VARIABLE_VALUE")
    assert weights.shape == (ROWS, 4)
    assert (weights == last).all(), "the values of that step, not of a step that was cut short"
