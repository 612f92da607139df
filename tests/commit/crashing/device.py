"""The story on a real ext4 whose device is cut off, and on one that fills up. Run under `unshare --mount` by a test.

ext4 is mounted from a file with what makes it forget most: no ordering of data, no flush at rename, a commit of its own
journal every five minutes only. What has reached the file at a moment is what a disk would hold if its power were cut
then: the file is copied, the copy is mounted (ext4 recovers) and checked. Mounts live in this process's own namespace
and end with it, and so do their loop devices.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from crashing.chief import start, values
from crashing.story import Expected, check, check_next_save, nothing_is_synced, save_retire_and_restart
from crashing.system import Call, layer
from distckpt.errors import DistckptError, OutcomeUnknown, StorageNoSpace
from distckpt.storage.posix import PosixStorage

FORGETFUL = "data=writeback,noauto_da_alloc,commit=300"
IMAGE_BYTES = 8 << 20
ROOM_STEPS, ROOM_BYTES = 40, 1024


class Cut:
    """A handler for `system.layer` that copies the device after every `every`-th call, with what was expected then."""

    def __init__(self, image: Path, every: int) -> None:
        self.copies: list[tuple[Path, Expected]] = []
        self._image = image
        self._every = every
        self._calls = 0
        self._live: dict[int, float] = {}
        self._open: list[Path] = []

    def __call__(self, call: Call, proceed: Callable[[], Any]) -> Any:
        result = proceed()
        self._calls += 1
        if self._calls % self._every == 0:
            copy = self._image.with_name(f"copy-{self._calls}")
            shutil.copyfile(self._image, copy)
            self._open.append(copy)
        return result

    def say(self, live: dict[int, float]) -> None:
        self.copies += [(copy, Expected(self._live, dict(live))) for copy in self._open]
        self._open, self._live = [], dict(live)


@contextmanager
def mounted(image: Path, options: str) -> Iterator[Path]:
    where = image.with_name("mounted")
    where.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "ext4", "-o", f"loop,{options}", str(image), str(where)], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", str(where)], check=True)


def new_image(top: Path, size: int) -> Path:
    image = top / "image"
    with image.open("wb") as file:
        file.truncate(size)
    made = ["mkfs.ext4", "-q", "-b", "1024", "-J", "size=1", "-m", "0", "-E", "lazy_itable_init=0", str(image)]
    subprocess.run(made, check=True)
    return image


def power_loss(top: Path, every: int, *, synced: bool) -> tuple[int, int]:
    """How many moments were cut off, and after how many of them something was wrong."""
    image = new_image(top, IMAGE_BYTES)
    cut = Cut(image, every)
    with mounted(image, FORGETFUL) as where, nullcontext() if synced else nothing_is_synced(), layer(where, cut):
        save_retire_and_restart(where / "job", cut.say)
    wrong = 0
    for copy, expected in cut.copies:
        with mounted(copy, FORGETFUL) as where:
            try:
                check(where / "job", expected)
            except (AssertionError, DistckptError) as error:
                wrong += 1
                sys.stderr.write(f"{copy.name}: {type(error).__name__}: {error}\n")
        copy.unlink()
    return len(cut.copies), wrong


def full(top: Path) -> tuple[int, int]:
    """Saves with more and more room on a full disk: how many were acknowledged, how many did not fit."""
    with mounted(new_image(top, IMAGE_BYTES // 2), "nosuid") as where:
        directory, ballast = where / "job", where / "ballast"
        chief = start(PosixStorage.create(directory), directory=str(directory))
        acknowledged: dict[int, float] = {}
        unclear: set[int] = set()
        for step in range(ROOM_STEPS):
            leave_free(ballast, step * ROOM_BYTES)
            try:
                chief.commit(step, float(step))
            except StorageNoSpace:
                continue
            except OutcomeUnknown:
                unclear.add(step)
            else:
                acknowledged[step] = float(step)
        ballast.unlink()
        chief = start(PosixStorage.create(directory), directory=str(directory))
        found = values(chief.storage)
        assert acknowledged.items() <= found.items() <= (acknowledged | {step: float(step) for step in unclear}).items()
        check_next_save(directory, chief)
        return len(acknowledged), ROOM_STEPS - len(acknowledged)


def leave_free(ballast: Path, room: int) -> None:
    """Makes `ballast` as large as leaves `room` bytes on its file system."""
    with ballast.open("ab") as file:
        status = os.statvfs(ballast)
        size = file.tell() + status.f_bavail * status.f_frsize - room
        if size > file.tell():
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(max(size, 0))


def main(what: str, top: str, every: str = "1") -> None:
    """Prints two numbers: see `full` and `power_loss`."""
    two = full(Path(top)) if what == "full" else power_loss(Path(top), int(every), synced=what == "power-loss")
    print(*two)  # noqa: T201 - how it tells the test


if __name__ == "__main__":
    main(*sys.argv[1:])
