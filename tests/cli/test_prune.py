"""`distckpt prune`: retention by hand, for a job that has ended, and for no other."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distckpt import Catalog
from distckpt.bundle.statefile import CheckpointState, format_state, parse_state
from distckpt.commit.prune import prune
from distckpt.errors import DirectoryInUse, Fenced
from distckpt.journal.holding import Holder
from distckpt.journal.leases import LEASES, Lease, encode_lease
from distckpt.journal.liveness import Pulse, claim
from distckpt.journal.log import Journal
from distckpt.journal.process import this_process
from distckpt.journal.reading import load
from distckpt.journal.records import Process
from distckpt.protocol.retention import KeepLatest
from distckpt.storage.posix import PosixStorage

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def ended(job: Any) -> Any:
    """A job that saved steps 10 to 60 and has ended."""
    for step in range(10, 70, 10):
        job.save(step)
    Pulse(job._storage, job.committer.journal.state.begun).close()
    return job


def steps(directory: Path) -> list[int]:
    found = sorted(int(path.stem.removeprefix("ckpt-")) for path in directory.glob("*.index"))
    assert found == sorted(each.step for each in Catalog(directory).checkpoints)
    return found


def test_all_but_the_latest_are_removed_and_what_is_left_is_sound(distckpt: Command, ended: Any) -> None:
    done = distckpt("prune", ended.directory, "--keep-latest", 2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("Removed 4 checkpoints, ")
    assert done.stdout.splitlines()[-1].endswith(", and keep 2.")
    assert steps(ended.directory) == [50, 60]
    assert distckpt("verify", ended.directory).returncode == 0
    state = parse_state((ended.directory / "checkpoint").read_bytes())
    assert state.all_model_checkpoint_paths == ("ckpt-50", "ckpt-60")
    assert not list((ended.directory / ".distckpt" / "staging").glob("*/*-ckpt-10*"))


def test_one_every_so_many_steps_is_kept_too(distckpt: Command, ended: Any) -> None:
    done = distckpt("prune", ended.directory, "--keep-latest", 1, "--keep-every-steps", 20, "--json")
    found = json.loads(done.stdout)
    assert [each["step"] for each in found["kept"]] == [10, 30, 50, 60]
    assert [each["step"] for each in found["removed"]] == [20, 40]
    assert found["bytes_removed"] == sum(each["bytes"] for each in found["removed"])
    assert not found["dry_run"]
    assert steps(ended.directory) == [10, 30, 50, 60]


@pytest.mark.parametrize("plain", [False, True], ids=["ours", "TensorFlow's"])
def test_a_dry_run_says_what_a_run_then_does_and_changes_nothing(
    plain: bool,  # noqa: FBT001 - a parameter
    distckpt: Command,
    ended: Any,
    contents: Callable[[Path], Any],
) -> None:
    if plain:
        shutil.rmtree(ended.directory / ".distckpt")
    before = contents(ended.directory)
    dry = distckpt("prune", ended.directory, "--keep-latest", 2, "--dry-run", "--json")
    assert contents(ended.directory) == before
    words = distckpt("prune", ended.directory, "--keep-latest", 2, "--dry-run").stdout.splitlines()
    assert words[-1].startswith("Would remove 4 checkpoints, ")
    assert words[-1].endswith("and keep 2; nothing was changed.")
    wet = distckpt("prune", ended.directory, "--keep-latest", 2, "--json")
    told, done = json.loads(dry.stdout), json.loads(wet.stdout)
    assert (told.pop("dry_run"), done.pop("dry_run")) == (True, False)
    assert told == done
    assert steps(ended.directory) == [50, 60]


@pytest.mark.parametrize("state", ["untimed", "some preserved", "none"])
def test_a_dry_run_knows_what_a_start_would_keep_for_good(state: str, distckpt: Command, ended: Any) -> None:
    """Of what TensorFlow lists without times, or no later than its last preserved one, nothing says that it may go."""
    shutil.rmtree(ended.directory / ".distckpt")
    file = ended.directory / "checkpoint"
    told = parse_state(file.read_bytes())
    if state == "untimed":
        told = replace(told, all_model_checkpoint_timestamps=())
    elif state == "some preserved":
        told = replace(told, last_preserved_timestamp=told.all_model_checkpoint_timestamps[2])
    file.write_bytes(format_state(told))
    if state == "none":
        file.write_bytes(format_state(CheckpointState("ckpt-60", ("ckpt-60",))))
    dry = json.loads(distckpt("prune", ended.directory, "--keep-latest", 1, "--dry-run", "--json").stdout)
    wet = json.loads(distckpt("prune", ended.directory, "--keep-latest", 1, "--json").stdout)
    assert {**dry, "dry_run": False} == wet
    assert [each["step"] for each in wet["removed"]] == {"some preserved": [40, 50]}.get(state, [])


def test_while_its_job_lives_a_directory_is_not_pruned(job: Any) -> None:
    for step in (1, 2):
        job.save(step)
    journal = job.committer.journal
    # The chief of this test is on no machine that can be looked at: it is watched.
    pulse = Pulse(job._storage, journal.state.begun)

    class Beating(PosixStorage):
        def read_at(self, key: str, offset: int, length: int) -> bytes:
            if key.endswith("alive.json"):
                pulse.beat()
            return super().read_at(key, offset, length)

    with pytest.raises(DirectoryInUse, match="is alive"):
        prune(Beating(job.directory), str(job.directory), KeepLatest(1))
    assert steps(job.directory) == [1, 2]
    job.save(3)


def test_a_pruned_directory_is_free_at_once_for_the_jobs_next_start(ended: Any) -> None:
    prune(PosixStorage(ended.directory), str(ended.directory), KeepLatest(1))
    storage = PosixStorage(ended.directory)

    def impatient(seconds: float) -> None:
        raise AssertionError(f"it waits {seconds} s")

    assert "left" in claim(storage, "digits", load(storage).state.begun, sleep=impatient)


def test_a_job_that_starts_while_its_directory_is_pruned_wins(ended: Any) -> None:
    class Started(PosixStorage):
        begun = False

        def publish(self, handle: str, key: str) -> None:
            raise AssertionError(key)

        def staged(self) -> list[str]:
            found = super().staged()
            if not self.begun:  # recovery cleans up, its last act; retention is next
                self.begun = True
                process = Process("here", 1)
                Journal.open(self).begin(job="digits", process=process, world=(), timestamp=0.0)
            return found

    with pytest.raises(Fenced, match="job digits has taken the directory over"):
        prune(Started(ended.directory), str(ended.directory), KeepLatest(1))
    assert steps(ended.directory) == [10, 20, 30, 40, 50, 60]


def test_what_an_evaluator_reads_is_kept_and_told(distckpt: Command, ended: Any) -> None:
    with Holder(ended._storage) as holder:
        holder.narrow(Catalog(ended.directory).checkpoint(20))
        done = distckpt("prune", ended.directory, "--keep-latest", 1)
    assert done.returncode == 0, done.stderr
    assert next(line for line in done.stdout.splitlines() if "ckpt-20" in line).endswith("keep: it is being read")
    assert steps(ended.directory) == [20, 60]
    assert distckpt("prune", ended.directory, "--keep-latest", 1).returncode == 0
    assert steps(ended.directory) == [60]


def test_a_lease_of_a_process_that_is_gone_keeps_nothing(distckpt: Command, ended: Any) -> None:
    gone = replace(this_process(), started="1")
    ended._storage.put(f"{LEASES}/gone.json", encode_lease(Lease(gone, 1, 0.0, None)))
    assert distckpt("prune", ended.directory, "--keep-latest", 1).returncode == 0
    assert steps(ended.directory) == [60]
    assert ended._storage.keys(LEASES) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "--keep-latest"),
        (["--keep-latest", "0"], "'0' is not a whole number, 1 or more"),
        (["--keep-latest", "1", "--keep-every-steps", "0"], "'0' is not a whole number, 1 or more"),
    ],
)
def test_a_wrong_command_line_ends_with_code_2(distckpt: Command, ended: Any, arguments: list[str], told: str) -> None:
    done = distckpt("prune", ended.directory, *arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(steps(ended.directory)) == 6


def test_where_there_are_no_checkpoints_nothing_is_made(distckpt: Command, tmp_path: Path) -> None:
    done = distckpt("prune", tmp_path, "--keep-latest", 1)
    assert done.returncode == 1
    assert done.stderr == f"distckpt: {tmp_path}: no checkpoints to prune\n"
    assert list(tmp_path.iterdir()) == []
