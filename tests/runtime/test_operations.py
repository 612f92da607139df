"""A tool finds the job that runs in a directory, and is told why where none can be called."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from distckpt.errors import ConfigurationError, CoordinatorUnreachable
from distckpt.model import Place
from distckpt.options import Options
from distckpt.protocol.retention import KeepLatest
from distckpt.rpc import credentials
from distckpt.rpc.operator import operator_of
from distckpt.runtime.session import open_session

NO_BOARD: Any = None  # one worker has nobody to tell
WORKER = Path(__file__).parents[1] / "faults" / "job_worker.py"


@pytest.mark.parametrize("count", [1, 2])
def test_a_running_job_says_who_is_in_it(job: Any, count: int) -> None:
    job.start(count, job="digits")
    with operator_of(str(job.directory)) as operator:
        status = operator.status()
    assert (status.job, status.generation, status.world_size) == ("digits", 1, count)
    assert status.present == tuple(range(count))


def test_a_job_that_has_ended_is_named(job: Any) -> None:
    job.start(1, job="digits")
    job.stop()
    ended = r"job digits \(generation 1, .*\) has ended"
    with pytest.raises(CoordinatorUnreachable, match=ended), operator_of(str(job.directory)):
        pass


def test_a_job_that_was_killed_is_found_dead_at_once(tmp_path: Path) -> None:
    told = {"directory": str(tmp_path / "job"), "board": "", "index": 0, "count": 1, "steps": [1]}
    died = subprocess.run([sys.executable, str(WORKER), json.dumps({**told, "die": {"at": 1, "step": 1}})], check=False)
    assert died.returncode == -signal.SIGKILL
    gone = "died: there is no such process any more"
    with pytest.raises(CoordinatorUnreachable, match=gone), operator_of(str(tmp_path / "job")):
        pass


def test_a_chief_that_does_not_answer_is_named_within_the_deadline(job: Any) -> None:
    (worker,) = job.start(1)
    worker.session.chief._server.stop(0.0)
    with operator_of(str(job.directory)) as operator, pytest.raises(CoordinatorUnreachable, match="does not answer"):
        operator.status()


def test_directories_without_a_job_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such directory"), operator_of(str(tmp_path / "none")):
        pass
    with pytest.raises(CoordinatorUnreachable, match="no job of distckpt ever ran here"), operator_of(str(tmp_path)):
        pass


def test_commands_call_a_job_that_brought_its_own_certificates(tmp_path: Path) -> None:
    authority = credentials._Authority()
    server = authority.issue("localhost", ExtendedKeyUsageOID.SERVER_AUTH)
    mine = authority.issue("someone", ExtendedKeyUsageOID.CLIENT_AUTH)
    files = [str(tmp_path / name) for name in ("authority", "certificate", "key")]
    for path, content in zip(files, (mine.authority, mine.certificate, mine.key), strict=True):
        Path(path).write_bytes(content)
    directory = str(tmp_path / "checkpoints")
    options = Options(job="digits", address="localhost:0", credentials=server)
    session = open_session(directory, Place(0, 1), NO_BOARD, KeepLatest(1), options, lambda *_: None)
    try:
        refused = distckpt("probe", directory)
        assert refused.returncode == 1
        assert "--tls AUTHORITY CERTIFICATE KEY" in refused.stderr
        probed = distckpt("probe", directory, "--tls", *files)
        assert "job digits, generation 1: workers 0 of 1 are here" in probed.stdout, probed.stderr
        status = distckpt("status", directory, "--json", "--tls", *files)
        assert "nobody watches this job" in json.loads(status.stdout)["note"], (
            "the answer of a session without observer"
        )
    finally:
        session.close()


def distckpt(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "distckpt.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
