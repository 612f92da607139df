"""deploy/slurm/train.sbatch, with stand-ins for srun and scontrol that behave as Slurm 22.05 was seen to.

With a real Slurm on one machine the same script was run by hand: see deploy/README.md.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from orchestrators.container import FULL, ROOT, Container, StartContainer

from distckpt import Catalog

SCRIPT = ROOT / "deploy" / "slurm" / "train.sbatch"
JOB_ID = "4321"
PORT = 20_000 + 4321

# Sets what srun sets for a step of two tasks on one node, and ends with the highest code, as srun does.
SRUN = """#!{python}
import os, signal, subprocess, sys
options = sys.argv[1:sys.argv.index("distckpt")]
assert options == ["--wait=60"], options
command = sys.argv[1 + len(options):]
step = {{"SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "2",
        "SLURM_DISTRIBUTION": "block"}}
tasks = [subprocess.Popen(command, env={{**os.environ, **step, "SLURM_PROCID": str(rank)}}) for rank in range(2)]
print("tasks", *(task.pid for task in tasks), flush=True)
codes = [task.wait() for task in tasks]
sys.exit(max(code if code >= 0 else 128 - code for code in codes))
"""
SCONTROL = """#!/bin/sh
echo "scontrol $*"
"""

SAY = "import os; os.write(1, ({} + '\\n').encode())"
"""In one write: two tasks speak at once."""

Sbatch = Callable[..., Container]


@pytest.fixture
def sbatch(start: StartContainer, tmp_path: Path) -> Sbatch:
    """Runs the script as a batch job does, on the node of its first task."""
    tools = tmp_path / "slurm"
    tools.mkdir()
    for name, text in (("srun", SRUN.format(python=sys.executable)), ("scontrol", SCONTROL)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)

    def run(*command: str, environ: Mapping[str, str] | None = None) -> Container:
        path = f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        batch = {"SLURM_JOB_ID": JOB_ID, "SLURM_PROCID": "0", "PATH": path, **(environ or {})}
        return start(["bash", str(SCRIPT), *command], batch)

    return run


def test_every_task_finds_its_place_on_a_port_of_the_jobs_own(sbatch: Sbatch) -> None:
    job = sbatch("python", "-c", SAY.format("os.environ['TF_CONFIG']"))
    assert job.wait() == 0
    configs = [json.loads(line) for line in job.lines if line.startswith("{")]
    assert sorted(config["task"]["index"] for config in configs) == [0, 1]
    for config in configs:
        assert config["cluster"]["worker"] == [f"localhost:{PORT}", f"localhost:{PORT + 1}"]


def test_a_job_that_was_told_to_go_is_put_back_into_the_queue(sbatch: Sbatch) -> None:
    job = sbatch("python", "-c", "raise SystemExit(143)")
    assert job.wait() == 143
    assert f"scontrol requeue {JOB_ID}" in job.lines


def test_a_failure_is_tried_again_in_the_same_allocation_so_often_and_no_oftener(sbatch: Sbatch) -> None:
    fail = SAY.format("'attempt ' + os.environ['DISTCKPT_RESTARTS']") + "; raise SystemExit(3)"
    job = sbatch("python", "-c", fail, environ={"TRAIN_RESTARTS": "1"})
    assert job.wait() == 3
    assert sorted(line for line in job.lines if line.startswith("attempt")) == ["attempt 0"] * 2 + ["attempt 1"] * 2
    assert not any("scontrol" in line for line in job.lines)


def test_a_start_that_works_ends_the_trying(sbatch: Sbatch) -> None:
    job = sbatch("python", "-c", "import os; raise SystemExit(os.environ['DISTCKPT_RESTARTS'] == '0')")
    assert job.wait() == 0


def test_without_a_command_nothing_is_started(sbatch: Sbatch) -> None:
    job = sbatch()
    assert job.wait() == 2
    assert "say what to run" in job.lines[0]


def test_the_scripts_options_are_those_that_requeueing_needs() -> None:
    options = [line.split()[1] for line in SCRIPT.read_text().splitlines() if line.startswith("#SBATCH ")]
    assert {"--requeue", "--open-mode=append", "--signal=TERM@120"} <= set(options)


@FULL
def test_a_training_of_two_tasks_is_killed_and_resumes_in_the_same_allocation(sbatch: Sbatch, tmp_path: Path) -> None:
    directory = tmp_path / "run-1"
    job = sbatch("python", "examples/custom_loop.py", str(directory), "300")
    job.wait_for("tasks ")
    victim = int(job.lines[-1].split()[2])
    job.wait_for("step 10:")
    os.kill(victim, signal.SIGKILL)
    job.wait_for("srun ended with code 137 in attempt 0 of 3")
    assert job.wait() == 0
    latest = Catalog(directory).latest
    assert latest is not None
    assert latest.step == 300
