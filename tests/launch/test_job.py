"""Local jobs with real processes: small Python programs stand in for training scripts."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distckpt.launch.job import LocalJob

RunJob = Callable[..., Any]  # the fixture in conftest.py
DEADLINE_S = 60.0
SHOW_ENVIRONMENT = """
import json, os
print(json.dumps({name: os.environ[name] for name in ("TF_CONFIG", "DISTCKPT_JOB_ID", "DISTCKPT_RESTARTS")}))
"""


def gone(pid: int) -> bool:
    """Whether the process has ended (a zombie nobody has waited for has)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


def test_each_worker_finds_its_place_in_one_cluster(run_job: RunJob) -> None:
    outcome = run_job(SHOW_ENVIRONMENT, workers=3)
    assert outcome.code == 0
    configs = [json.loads(json.loads(outcome.texts(worker)[0])["TF_CONFIG"]) for worker in range(3)]
    assert [config["task"] for config in configs] == [{"type": "worker", "index": index} for index in range(3)]
    addresses = configs[0]["cluster"]["worker"]
    assert len(set(addresses)) == 3
    assert all(config["cluster"]["worker"] == addresses for config in configs)


def test_restarts_keep_the_jobs_name_and_are_counted_and_the_next_run_has_another_name(run_job: RunJob) -> None:
    fail_once = SHOW_ENVIRONMENT + "import sys; sys.exit(os.environ['DISTCKPT_RESTARTS'] == '0')"
    runs = [run_job(fail_once, workers=1, max_restarts=2) for _ in range(2)]
    names = []
    for run in runs:
        assert run.code == 0
        seen = [json.loads(text) for text in run.texts()]
        assert [each["DISTCKPT_RESTARTS"] for each in seen] == ["0", "1"]
        assert seen[0]["DISTCKPT_JOB_ID"] == seen[1]["DISTCKPT_JOB_ID"]
        assert seen[0]["TF_CONFIG"] != seen[1]["TF_CONFIG"], "a restart takes fresh ports"
        names.append(seen[0]["DISTCKPT_JOB_ID"])
    assert names[0] != names[1]


def test_a_name_that_the_environment_gives_stays(run_job: RunJob) -> None:
    outcome = run_job(SHOW_ENVIRONMENT, workers=1, environ={"DISTCKPT_JOB_ID": "nightly-7"})
    assert json.loads(outcome.texts()[0])["DISTCKPT_JOB_ID"] == "nightly-7"


def test_one_killed_worker_restarts_all(run_job: RunJob) -> None:
    program = """
import os, signal, threading
if os.environ["DISTCKPT_RESTARTS"] == "0":
    print("waiting", flush=True)
    signal.pause()
print("again")
"""

    def react(job: LocalJob, worker: int, text: bytes) -> None:
        if (worker, text) == (1, b"waiting"):
            job.kill(1)

    outcome = run_job(program, max_restarts=1, react=react)
    assert outcome.code == 0
    assert outcome.texts(0)[-1] == outcome.texts(1)[-1] == "again"
    assert outcome.said[0] == "worker 1 was killed by SIGKILL: stopping the others"


def test_the_exit_code_is_that_of_the_first_worker_that_failed(run_job: RunJob) -> None:
    program = """
import json, os, signal, sys
if json.loads(os.environ["TF_CONFIG"])["task"]["index"] == 1:
    sys.exit(3)
signal.pause()
"""
    assert run_job(program).code == 3


def test_a_worker_deaf_to_sigterm_is_killed_after_the_grace_period(run_job: RunJob) -> None:
    program = """
import json, os, signal
index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
if index == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
signal.pause()
"""
    ready = set()

    def react(job: LocalJob, worker: int, text: bytes) -> None:
        ready.add(worker)
        if ready == {0, 1}:
            job.kill(1)

    outcome = run_job(program, grace_s=0.05, react=react)
    assert outcome.code == 128 + signal.SIGKILL
    assert outcome.said[1] == "still running after 0.05 s: killing 0"


def test_nothing_that_a_worker_started_outlives_the_job(run_job: RunJob) -> None:
    program = """
import subprocess, sys
for new_session in (False, True):
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=new_session)
    print(child.pid)
"""
    outcome = run_job(program)
    assert outcome.code == 0
    pids = [int(text) for text in outcome.texts()]
    assert len(pids) == 4
    assert all(gone(pid) for pid in pids)


def test_lines_of_several_workers_are_never_mixed_and_none_is_lost(run_job: RunJob) -> None:
    program = """
import json, os, sys
letter = "ab"[json.loads(os.environ["TF_CONFIG"])["task"]["index"]]
for count in range(200):
    sys.stdout.write(letter * (997 * (count % 7)) + str(count) + "\\n")
sys.stdout.write("the last line has no newline")
"""
    outcome = run_job(program)
    assert outcome.code == 0
    for worker, letter in enumerate("ab"):
        expected = [letter * (997 * (count % 7)) + str(count) for count in range(200)]
        assert outcome.texts(worker) == [*expected, "the last line has no newline"]


def test_bytes_that_are_no_text_pass_through(run_job: RunJob) -> None:
    outcome = run_job("import sys; sys.stdout.buffer.write(bytes(range(256)))", workers=1)
    assert b"\n".join(text for _, _, text in outcome.lines) == bytes(range(256))


def test_stdout_and_stderr_stay_apart(run_job: RunJob) -> None:
    outcome = run_job("import sys; print('out'); print('err', file=sys.stderr)", workers=1)
    assert sorted(outcome.lines) == [(0, "stderr", b"err"), (0, "stdout", b"out")]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_launcher_reaches_every_worker(run_job: RunJob, signum: signal.Signals) -> None:
    program = f"""
import signal, sys
def stop(number, frame):
    print("stopped")
    sys.exit(0)
signal.signal({int(signum)}, stop)
print("ready", flush=True)
signal.pause()
"""
    ready = set()

    def react(_job: LocalJob, worker: int, text: bytes) -> None:
        ready.add(worker)
        if text == b"ready" and ready == {0, 1}:
            os.kill(os.getpid(), signum)

    outcome = run_job(program, max_restarts=3, react=react)
    assert outcome.code == 0
    assert outcome.texts(0) == outcome.texts(1) == ["ready", "stopped"]


def test_the_second_ctrl_c_kills(run_job: RunJob) -> None:
    program = """
import signal
signal.signal(signal.SIGINT, lambda *_: print("not yet", flush=True))
print("ready", flush=True)
while True:
    signal.pause()
"""
    seen: list[bytes] = []

    def react(_job: LocalJob, _worker: int, text: bytes) -> None:
        seen.append(text)
        if seen.count(text) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    assert run_job(program, react=react).code == 128 + signal.SIGKILL


def test_the_workers_die_with_a_launcher_that_is_killed() -> None:
    program = "import os, signal; print(os.getpid(), flush=True); signal.pause()"
    launcher = subprocess.Popen(
        [sys.executable, "-m", "distckpt.cli.main", "run", "--workers", "2", "--", sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        lines = [launcher.stdout.readline() for _ in range(2)]
        pids = [int(line.split()[-1]) for line in lines]
        ends = [os.pidfd_open(pid) for pid in pids]
    finally:
        launcher.kill()
        launcher.wait()
    for end in ends:
        assert select.select([end], [], [], DEADLINE_S)[0], "a pidfd is readable when its process has ended"
        os.close(end)


def test_signal_handlers_of_the_caller_are_restored(run_job: RunJob) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)]
    run_job("pass")
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)] == before
