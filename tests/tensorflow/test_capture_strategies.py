"""Under a strategy too, workers together write what TensorFlow would, and a step leaves snapshots as they were.

TensorFlow is configured once a process, so these run in processes of their own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import portpicker
import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DEADLINE_S = 150.0


@dataclass(frozen=True)
class Script:
    """A running script; what it prints goes into files, so that it never waits for a reader."""

    process: subprocess.Popen[bytes]
    output: Path
    errors: Path

    def result(self) -> Any:
        """What it printed in its last line, as JSON; kills it at the deadline."""
        try:
            code = self.process.wait(timeout=DEADLINE_S)
        finally:
            self.process.kill()
            self.process.wait()
        assert code == 0, self.errors.read_text()[-4000:]
        return json.loads(self.output.read_text().splitlines()[-1])


def start(output: Path, script: str, *arguments: str, **environment: str) -> Script:
    known = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, str(HERE / script), *arguments]
    errors = output.with_suffix(".errors")
    with output.open("wb") as out, errors.open("wb") as err:
        process = subprocess.Popen(command, env={**known, **environment}, stdout=out, stderr=err)
    return Script(process, output, errors)


@pytest.mark.parametrize("devices", [2, 3])
def test_mirrored_variables_are_captured_as_tensorflow_writes_them(devices: int, tmp_path: Path) -> None:
    problems = start(tmp_path / "output", "mirrored_capture.py", str(devices)).result()
    assert problems
    assert not any(problems.values()), problems


def test_two_workers_write_together_what_tensorflow_writes_twice(tmp_path: Path) -> None:
    addresses = [f"localhost:{portpicker.pick_unused_port()}" for _ in range(2)]
    configurations = [
        json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}) for index in range(2)
    ]
    outputs = [tmp_path / f"output-{index}" for index in range(2)]
    workers = [
        start(output, "workers_capture.py", str(tmp_path), TF_CONFIG=configuration)
        for output, configuration in zip(outputs, configurations, strict=True)
    ]
    try:
        chief, other = (worker.result() for worker in workers)
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.wait()
    assert not any(chief["problems"].values()), chief["problems"]
    assert not any(other["problems"].values()), other["problems"]
    assert chief["layouts"] == other["layouts"]
    collectives = {name: needs for name, (_, needs) in chief["layouts"].items()}
    assert collectives["aggregating"]
    assert not collectives["sparse"]
    assert [chief["place"], other["place"]] == [[0, 2, addresses], [1, 2, addresses]]
