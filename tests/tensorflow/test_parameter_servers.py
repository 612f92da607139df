"""`distckpt.CheckpointManager` under ParameterServerStrategy: real parameter servers, a worker and a coordinator."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import portpicker
import pytest

import distckpt

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


class Cluster:
    """One process for each task; `chief` tells its story line by line."""

    def __init__(self, folder: Path, story: str, servers: int) -> None:
        sizes = {"ps": servers, "worker": 1, "chief": 1}
        addresses = {
            job: [f"127.0.0.1:{portpicker.pick_unused_port()}" for _ in range(size)] for job, size in sizes.items()
        }
        self.folder = folder
        self.tasks: dict[str, subprocess.Popen[str]] = {}
        for job, size in sizes.items():
            for index in range(size):
                config = {"cluster": addresses, "task": {"type": job, "index": index}}
                self.tasks[f"{job}-{index}"] = self._start(f"{story}-{job}-{index}", story, json.dumps(config))

    def _start(self, name: str, story: str, config: str) -> subprocess.Popen[str]:
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CONFIG": config, "CUDA_VISIBLE_DEVICES": "-1"}
        command = [sys.executable, str(HERE / "parameter_servers.py"), str(self.folder / "job"), story]
        with (self.folder / f"{name}.errors").open("w") as errors:
            return subprocess.Popen(
                command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )

    def told(self) -> Any:
        """The next part of the chief's story."""
        stdout = self.tasks["chief-0"].stdout
        assert stdout is not None
        line = stdout.readline()
        assert line, "\n".join(path.read_text()[-2000:] for path in self.folder.glob("*-chief-0.errors"))
        return json.loads(line)

    def go_on(self) -> None:
        stdin = self.tasks["chief-0"].stdin
        assert stdin is not None
        stdin.write("\n")
        stdin.flush()


@contextmanager
def cluster(folder: Path, story: str, servers: int) -> Iterator[Cluster]:
    made = Cluster(folder, story, servers)
    try:
        yield made
    finally:
        for task in made.tasks.values():
            task.kill()
            task.communicate()


@pytest.mark.timeout(240)
def test_what_two_parameter_servers_hold_is_saved_and_three_go_on_with_it(tmp_path: Path) -> None:
    with cluster(tmp_path, "saves", servers=2) as job:
        assert job.told() == {"embedding": [4.0], "step": 4}, "as TensorFlow alone reads it"
        job.tasks["ps-1"].kill()
        job.tasks["ps-1"].wait()
        job.go_on()
        assert job.told()["error"] == "UnavailableError", "TensorFlow's own, at once"
    catalog = distckpt.Catalog(tmp_path / "job")
    assert [each.step for each in catalog.checkpoints] == [4], "what was lost halfway is not there"
    assert catalog.verify(4) == []
    assert len([entry for _, entry in catalog.entries(4) if entry.name.startswith("embedding/")]) == 2

    with cluster(tmp_path, "restores", servers=3) as job:
        assert job.told() == {
            "shards": 3,
            "embedding": [4.0],
            "trace": 16.0,
            "step": 4,
            "own": "the coordinator's",
            "path": str(tmp_path / "job" / "ckpt-4"),
            "then": 8,
        }
    assert [(each.step, each.generation) for each in catalog.checkpoints] == [(4, 1), (8, 2)]
    assert catalog.verify(8) == []
