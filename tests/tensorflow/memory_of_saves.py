"""How much memory asynchronous saves take, in a process of its own. Run by test_memory.py.

Usage: memory_of_saves.py DIRECTORY. Prints one line of JSON: the bytes of the variables, and by how much the process's
resident memory grew at most during a save and the step after it, with a budget that the save does not fit and without.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

import tensorflow as tf

import distckpt
from distckpt.options import STAGING_BYTES
from distckpt.storage.posix_staged import PosixStagedFile

VARIABLES = 3
MEBIBYTES_EACH = 48
DEADLINE_S = 60.0


class Slow(PosixStagedFile):
    """The real file, but it is durable only once the step after the save is over (`go`)."""

    go = threading.Event()
    seal_at_once = PosixStagedFile.seal

    def seal(self) -> str:
        assert Slow.go.wait(DEADLINE_S)
        return Slow.seal_at_once(self)


def status_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def growth(manager: Any, step: Any) -> int:
    step()
    Path("/proc/self/clear_refs").write_text("5")
    before = status_bytes("VmRSS")
    manager.save()
    step()
    Slow.go.set()
    manager.wait()
    return status_bytes("VmHWM") - before


def main() -> None:
    directory = Path(sys.argv[1])
    rows = MEBIBYTES_EACH << 18
    variables = [tf.Variable(tf.zeros([rows])) for _ in range(VARIABLES)]
    update = tf.ones([rows])
    checkpoint = tf.train.Checkpoint(variables=variables)
    model_bytes = VARIABLES * MEBIBYTES_EACH << 20
    PosixStagedFile.seal = Slow.seal  # type: ignore[method-assign]  # the storage is slow, from here on

    def step() -> None:
        for variable in variables:
            variable.assign_add(update)

    Slow.go.set()
    tight = distckpt.Options(memory_budget=model_bytes + STAGING_BYTES // 2)
    with distckpt.CheckpointManager(checkpoint, directory / "tight", 1, async_save=True, options=tight) as manager:
        manager.restore_or_initialize()
        waiting = growth(manager, step)
    with distckpt.CheckpointManager(checkpoint, directory / "default", 1, async_save=True) as manager:
        manager.restore_or_initialize()
        Slow.go.clear()
        going_on = growth(manager, step)
    sys.stdout.write(json.dumps({"model": model_bytes, "waiting": waiting, "going on": going_on}) + "\n")


if __name__ == "__main__":
    main()
