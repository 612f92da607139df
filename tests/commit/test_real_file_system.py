"""A real ext4: its device is cut off in the middle of a save, a retention and a restart; and it fills up.

Needs to mount, in a namespace of its own: root, loop devices and mkfs.ext4. DISTCKPT_CRASH_STATES=all cuts after every
system call.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
EVERY = 1 if os.environ.get("DISTCKPT_CRASH_STATES") == "all" else 15


@pytest.fixture(scope="module")
def may_mount() -> None:
    """Skips where an ext4 cannot be made and mounted: it says what is missing."""
    if shutil.which("mkfs.ext4") is None or shutil.which("unshare") is None:
        pytest.skip("mkfs.ext4 and unshare(1) are needed to make a file system to cut off")
    looked = "mount -t tmpfs none /mnt && test -c /dev/loop-control"
    tried = subprocess.run(["unshare", "--mount", "sh", "-c", looked], check=False, capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"this process may not mount a file system, or there are no loop devices: {tried.stderr.strip()}")


def on_a_device(what: str, *arguments: object) -> tuple[int, int]:
    """Runs crashing/device.py; its mounts end with it."""
    command = ["unshare", "--mount", sys.executable, "-m", "crashing.device", what, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{HERE}"}
    ran = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr
    first, second = ran.stdout.split()
    return int(first), int(second)


@pytest.mark.timeout(0)  # as long as the number of moments takes
@pytest.mark.usefixtures("may_mount")
def test_an_ext4_whose_device_is_cut_off_is_recovered(tmp_path: Path) -> None:
    moments, wrong = on_a_device("power-loss", tmp_path, EVERY)
    print(f"{moments} moments at which the device was cut off")  # noqa: T201 - `make crashes` shows it
    assert moments > 20
    assert wrong == 0


@pytest.mark.usefixtures("may_mount")
def test_without_any_fsync_the_same_loses_what_was_acknowledged(tmp_path: Path) -> None:
    _, wrong = on_a_device("unsynced", tmp_path, 60)
    assert wrong > 0


@pytest.mark.usefixtures("may_mount")
def test_an_ext4_that_is_full_costs_the_saves_that_do_not_fit_and_no_other(tmp_path: Path) -> None:
    acknowledged, refused = on_a_device("full", tmp_path)
    assert acknowledged > 10
    assert refused > 1
