"""Restarts, hangs, logs and the progress line, with real processes and without TensorFlow."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distckpt.launch.job import LocalJob
from distckpt.launch.logs import LogFolder

RunJob = Callable[..., Any]  # the fixture in conftest.py
DEADLINE_S = 60.0

# A training that tells of its steps as a CheckpointManager does. Each step ends when a byte comes in, as if in a
# collective, so that the test decides how far it gets.
TRAINING = """
import os, sys
from distckpt.observe.step_file import StepFile
attempt = int(os.environ["DISTCKPT_RESTARTS"])
steps = StepFile(os.environ)
steps.restoring()
steps.restored()
"""


def test_a_hung_worker_is_seen_to_hang_killed_and_the_job_restarts(run_job: RunJob) -> None:
    program = TRAINING + (
        """
import threading
def in_a_collective_that_never_ends():
    threading.Event().wait()
steps.step(81 + attempt)
print("a step", flush=True)
if attempt == 0:
    in_a_collective_that_never_ends()
"""
    )
    outcome = run_job(program, max_restarts=1, hang_timeout_s=0.5)
    assert outcome.code == 0
    assert outcome.texts(0).count("a step") == outcome.texts(1).count("a step") == 2
    assert "finished no step for" in outcome.said[0]
    assert "its last was 81" in outcome.said[0]
    for worker in range(2):
        dump = "\n".join(outcome.texts(worker))
        assert "in in_a_collective_that_never_ends" in dump, "faulthandler shows every thread's Python stack"


def test_a_hung_worker_that_is_deaf_to_sigabrt_is_killed_all_the_same(run_job: RunJob) -> None:
    program = TRAINING + (
        """
import signal, threading
signal.signal(signal.SIGABRT, signal.SIG_IGN)
steps.step(1)
threading.Event().wait()
"""
    )
    outcome = run_job(program, workers=1, hang_timeout_s=0.5, grace_s=0.05)
    assert outcome.code == 128 + signal.SIGKILL
    assert outcome.said[1] == "still running after 0.05 s: killing 0"


def test_what_a_restart_took_is_told_from_the_kill_to_the_first_step(run_job: RunJob) -> None:
    program = TRAINING + (
        """
import signal
steps.step(80 + attempt)
print("a step", flush=True)
signal.pause()
"""
    )

    def react(job: LocalJob, worker: int, text: bytes) -> None:
        if worker == 1 and text == b"a step" and not killed:
            killed.append(worker)
            job.kill(worker)

    def hear(text: str) -> None:
        if text.startswith("step 81 is the first since the failure, "):
            told.append(text)
            os.kill(os.getpid(), signal.SIGTERM)

    killed: list[int] = []
    told: list[str] = []
    assert run_job(program, max_restarts=1, react=react, hear=hear).code == 128 + signal.SIGTERM
    (text,) = told
    for part in ("to notice", "to stop the others", "to start", "to restore", "for the step"):
        assert f" s {part}" in text


def test_a_job_that_fails_again_is_restarted_with_fewer_workers_in_a_cluster_of_that_size(run_job: RunJob) -> None:
    program = """
import json, os, signal, sys
config = json.loads(os.environ["TF_CONFIG"])
workers, me = len(config["cluster"]["worker"]), config["task"]["index"]
print(workers, flush=True)
if workers > 2 and me > 0:
    signal.pause()
sys.exit(workers > 2)
"""
    outcome = run_job(program, workers=4, max_restarts=5, min_workers=2)
    assert outcome.code == 0
    assert outcome.texts(0) == ["4", "4", "3", "2"]
    assert outcome.said[-1] == "restart 3 of 5, with 2 workers: starting all workers again"


def test_a_worker_that_was_preempted_and_saved_does_not_spend_the_budget(run_job: RunJob) -> None:
    program = "import os, sys; sys.exit(143 if int(os.environ['DISTCKPT_RESTARTS']) < 4 else 3)"
    outcome = run_job(program, workers=1, max_restarts=1)
    assert outcome.code == 3
    assert sum("not counted" in text for text in outcome.said) == 4
    assert outcome.said[-1] == "giving up after 1 of 1 restarts"


def test_each_start_has_its_log_files_and_none_is_written_over(run_job: RunJob, tmp_path: Path) -> None:
    program = "import os, sys; print('out', os.environ['DISTCKPT_RESTARTS'], flush=True); print('err', file=sys.stderr)"
    fail_once = f"{program}; sys.exit(os.environ['DISTCKPT_RESTARTS'] == '0')"
    logs = tmp_path / "logs"
    assert run_job(fail_once, workers=1, max_restarts=1, log_dir=str(logs)).code == 0
    assert run_job(program, workers=2, log_dir=str(logs)).code == 0
    found = {str(path.relative_to(logs)): sorted(path.read_text().splitlines()) for path in logs.rglob("*.log")}
    assert found == {
        "start-0001/worker-0.log": ["err", "out 0"],
        "start-0002/worker-0.log": ["err", "out 1"],
        "start-0003/worker-0.log": ["err", "out 0"],
        "start-0003/worker-1.log": ["err", "out 0"],
    }


def test_a_job_outlives_its_log_files(tmp_path: Path) -> None:
    said: list[str] = []
    logs = LogFolder(str(tmp_path / "logs"), said.append)
    (tmp_path / "logs").rmdir()
    logs.begin(2)
    logs.line(0, b"nothing happens")
    assert len(said) == 1
    assert "not logged" in said[0]
    (tmp_path / "logs").mkdir()
    logs.begin(1)
    logs.line(0, b"again")
    assert (tmp_path / "logs" / "start-0001" / "worker-0.log").read_bytes() == b"again\n"
    logs.close()


def launcher(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "distckpt.cli.main", "run", *arguments]


def test_ctrl_c_while_a_restart_is_waited_for_ends_the_job_at_once() -> None:
    fail = [sys.executable, "-c", "raise SystemExit(7)"]
    process = subprocess.Popen(
        launcher("--workers", "1", "--max-restarts", "9", "--", *fail), stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stderr is not None
        for line in process.stderr:
            if "starting all workers again in " in line:
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
    assert rest == "[distckpt] SIGINT: not starting again\n"
    assert process.returncode == 7


def on_a_terminal(command: list[str], until: bytes) -> tuple[int, bytes]:
    """The exit code, and all that appeared on the terminal that was stdout and stderr. SIGTERM once `until` did."""
    terminal, end = pty.openpty()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=end, stderr=end)
    os.close(end)
    shown = b""
    asked = False
    try:
        while data := os.read(terminal, 4096):
            shown += data
            if until in shown and not asked:
                asked = True
                process.terminate()
    except OSError:  # Linux says EIO when the other end is closed
        pass
    os.close(terminal)
    return process.wait(DEADLINE_S), shown


def test_on_a_terminal_one_line_below_all_others_says_how_far_the_training_is() -> None:
    program = TRAINING + (
        """
import itertools, signal, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
for step in itertools.count(1):
    steps.step(step)
    print("trained")
    time.sleep(0.02)
"""
    )
    code, shown = on_a_terminal(
        launcher("--workers", "2", "--", sys.executable, "-c", program), until=b"[distckpt] 2 workers, step "
    )
    assert code == 0
    lines = shown.replace(b"\r\n", b"\n").split(b"\n")
    visible = [line.rpartition(b"\r\x1b[K")[2] for line in lines]
    told = b"[distckpt] SIGTERM: passed on to all workers (once more kills them)"
    assert visible[-1] == b"", "nothing is left of it in the end"
    assert set(visible[:-1]) == {b"[worker 0] trained", b"[worker 1] trained", told}


def test_where_there_is_no_terminal_no_line_is_written_over() -> None:
    done = subprocess.run(
        launcher("--workers", "1", "--", sys.executable, "-c", "print(1)"), capture_output=True, check=True
    )
    assert (done.stdout, done.stderr) == (b"[worker 0] 1\n", b"")


@pytest.mark.parametrize(
    "wrong",
    [
        ["--min-workers", "0"],
        ["--hang-timeout", "0"],
        ["--hang-timeout", "nan"],
        ["--healthy-after", "inf"],
        ["--healthy-after", "soon"],
    ],
)
def test_numbers_that_mean_nothing_are_refused(wrong: list[str]) -> None:
    done = subprocess.run(launcher("--workers", "1", *wrong, "--", "true"), capture_output=True, check=False)
    assert done.returncode == 2


def test_more_workers_at_least_than_at_most_is_refused() -> None:
    done = subprocess.run(
        launcher("--workers", "1", "--min-workers", "2", "--", "true"), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "distckpt: --min-workers 2 is more than --workers 1\n")


def test_a_worker_is_told_where_to_tell_of_its_steps(run_job: RunJob) -> None:
    outcome = run_job("import json, os; print(json.dumps(dict(os.environ)))", environ={"PYTHONFAULTHANDLER": "0"})
    seen = [json.loads(outcome.texts(worker)[0]) for worker in range(2)]
    assert seen[0]["DISTCKPT_STEP_FILE"] != seen[1]["DISTCKPT_STEP_FILE"]
    assert seen[0]["PYTHONFAULTHANDLER"] == "0", "who has set it knows why"
