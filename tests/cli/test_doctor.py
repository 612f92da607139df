"""`distckpt doctor` as a command: on this file system, and on broken ones.

A broken file system cannot be mounted here: the system calls of all processes are bent instead, by a `sitecustomize`
that each Python process imports at its start.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., subprocess.CompletedProcess[str]]

TAKES_TWICE = """
import os
link = os.link
def bent(source, target, **named):
    try:
        link(source, target, **named)
    except FileExistsError:
        os.unlink(target)
        link(source, target, **named)
os.link = bent
"""
# Right for one process alone, wrong for several: each knows only of the names that it took itself.
TAKES_TWICE_AMONG_PROCESSES = """
import os
link, mine = os.link, set()
def bent(source, target, **named):
    if "contended" in str(target) and str(target) not in mine:
        mine.add(str(target))
        try:
            os.unlink(target)
        except FileNotFoundError:
            pass
    link(source, target, **named)
os.link = bent
"""
NO_LINKS = """
import os
def bent(source, target, **named):
    raise OSError(1, "Operation not permitted")
os.link = bent
"""
READ_ONLY = """
import os
def bent(path, *rest, **named):
    raise OSError(30, "Read-only file system")
os.mkdir = bent
"""
NO_FOLDER_SYNC = """
import os, stat
fsync = os.fsync
def bent(fd):
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        raise OSError(22, "Invalid argument")
    fsync(fd)
os.fsync = bent
"""
FULL = """
import shutil
usage = shutil.disk_usage
shutil.disk_usage = lambda path: usage(path)._replace(free=5000)
"""


@pytest.fixture
def bend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def bent(code: str) -> None:
        folder = tmp_path / "bent"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(folder), prepend=":")

    return bent


def test_this_file_system_is_sound_and_nothing_is_left_behind(
    distckpt: Command, job: Any, contents: Callable[[Path], object]
) -> None:
    job.save(100)
    before = contents(job.directory)
    done = distckpt("doctor", job.directory, "--json")
    assert done.returncode == 0, done.stdout
    found = {each["check"]: each for each in json.loads(done.stdout)["findings"]}
    assert {each["verdict"] for each in found.values()} == {"ok"}
    assert found["contention"]["figures"] == {"processes": 4, "names": 50}
    assert found["writing"]["figures"]["bytes_per_s"] > 0
    assert found["reading"]["figures"]["bytes_per_s"] > 0
    assert found["room"]["words"].endswith("as ckpt-100 is")
    assert contents(job.directory) == before
    assert [path.name for path in job.directory.glob(".distckpt-doctor*")] == []


@pytest.mark.parametrize(
    ("code", "check", "words"),
    [
        (TAKES_TWICE, "exclusive creation", "link(2) does not fail where the name exists"),
        (TAKES_TWICE_AMONG_PROCESSES, "contention", "names were taken by more than one process"),
        (NO_LINKS, "exclusive creation", "the file system refuses hard links"),
        (READ_ONLY, "writing", "nothing can be written: Read-only file system"),
    ],
    ids=["takes twice", "takes twice among processes", "no links", "read-only"],
)
def test_what_is_wrong_with_a_file_system_is_said_in_words_with_code_1(
    code: str, check: str, words: str, distckpt: Command, bend: Any, tmp_path: Path
) -> None:
    (tmp_path / "checkpoints").mkdir()
    bend(code)
    done = distckpt("doctor", tmp_path / "checkpoints")
    assert done.returncode == 1, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith(f"broken  {check}  ")]
    assert words in line
    assert done.stdout.splitlines()[-1].startswith(f"Do not train into {tmp_path}/checkpoints")
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_folders_that_cannot_be_synced_are_a_warning(distckpt: Command, bend: Any, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    bend(NO_FOLDER_SYNC)
    done = distckpt("doctor", tmp_path / "checkpoints")
    assert done.returncode == 0, done.stdout
    assert "warning  folder sync" in done.stdout


def test_too_little_room_for_the_next_save_is_told_before_it_fails(distckpt: Command, bend: Any, job: Any) -> None:
    job.save(100)  # of more than 8,000 bytes
    bend(FULL)
    done = distckpt("doctor", job.directory)
    assert done.returncode == 1
    assert "5.0 KB are free: room for 0 more of " in done.stdout


def test_a_directory_that_is_not_there_is_one_line(distckpt: Command, tmp_path: Path) -> None:
    done = distckpt("doctor", tmp_path / "absent")
    assert done.returncode == 1
    assert done.stderr == f"distckpt: {tmp_path}/absent: no such directory\n"
