"""`distckpt recover` on directories that killed jobs left: first a dry run, then what it said, and all is well."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distckpt import Catalog
from distckpt.cli.main import main
from distckpt.journal.liveness import Pulse, claim
from distckpt.journal.reading import load
from distckpt.storage.posix import PosixStorage

DYING = Path(__file__).with_name("dying_job.py")
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def left(tmp_path: Path) -> Callable[[str, str], Path]:
    """The directory of a job that was killed before an operation on a key that contains something."""

    def run(operation: str, key: str) -> Path:
        died = subprocess.run([sys.executable, str(DYING), str(tmp_path), operation, key], timeout=60, check=False)
        assert died.returncode == -signal.SIGKILL
        return tmp_path

    return run


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(["recover", *arguments]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("operation", "key", "verbs", "steps"),
    [
        ("put_if_absent", "journal", {"discard"}, [2]),
        ("publish", "ckpt-3.data", {"publish", "rewrite"}, [2, 3]),
        ("publish", "ckpt-3.index", {"publish", "rewrite"}, [2, 3]),
        ("delete", "ckpt-2.data", {"delete", "discard"}, [3]),
    ],
)
def test_what_a_killed_job_left_is_told_done_and_then_sound(
    operation: str,
    key: str,
    verbs: set[str],
    steps: list[int],
    left: Any,
    contents: Callable[[Path], object],
    capsys: pytest.CaptureFixture[str],
) -> None:
    directory = left(operation, key)
    before = contents(directory)
    dry = json.loads(told(capsys, str(directory), "--dry-run", "--json"))
    words = told(capsys, str(directory), "--dry-run").splitlines()
    assert contents(directory) == before
    assert {each["verb"] for each in dry["actions"]} == verbs
    assert [line.split("  ")[0] for line in words[:-1]] == [each["verb"] for each in dry["actions"]]
    assert words[-1] == f"That would be done, {len(dry['actions'])} in all; nothing was changed."
    wet = json.loads(told(capsys, str(directory), "--json"))
    assert wet == {"dry_run": False, "actions": dry["actions"]}
    assert [each.step for each in Catalog(directory).checkpoints] == steps
    assert main(["verify", str(directory)]) == 0
    assert sorted(path.stem for path in directory.glob("*.index")) == [f"ckpt-{step}" for step in steps]
    capsys.readouterr()
    assert told(capsys, str(directory)) == "Nothing was left undone: the directory is as its journal says.\n"


def test_it_runs_as_a_command_without_tensorflow(distckpt: Command, left: Any) -> None:
    directory = left("publish", "ckpt-3.index")
    done = distckpt("recover", directory)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith("publish  ckpt-3.index")
    assert done.stdout.splitlines()[-1].startswith("That was done, ")


def test_a_recovered_directory_is_free_at_once_for_the_jobs_next_start(
    left: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = left("publish", "ckpt-3.index")
    told(capsys, str(directory))
    storage = PosixStorage(directory)

    def impatient(seconds: float) -> None:
        raise AssertionError(f"it waits {seconds} s")

    assert "left" in claim(storage, "dying", load(storage).state.begun, sleep=impatient)


@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["in earnest", "dry"])
def test_while_its_job_lives_a_directory_is_not_recovered(
    dry: list[str], job: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job.save(1)
    pulse = Pulse(job._storage, job.committer.journal.state.begun)
    read_at = PosixStorage.read_at

    def beating(storage: PosixStorage, key: str, offset: int, length: int) -> bytes:
        if key.endswith("alive.json"):
            pulse.beat()
        return read_at(storage, key, offset, length)

    monkeypatch.setattr(PosixStorage, "read_at", beating)
    assert main(["recover", str(job.directory), *dry]) == 1
    assert "holds the directory and is alive" in capsys.readouterr().err
    job.save(2)


def test_where_no_job_ever_ran_nothing_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recover", str(tmp_path)]) == 1
    assert "no job of distckpt ever ran here" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
