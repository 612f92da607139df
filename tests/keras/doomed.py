"""Runs an example as it is, but that worker 1 sends itself a signal after some saves in its first life.

Usage: doomed.py SIGNAL SAVES MARK EXAMPLE [ARGUMENT...]; the file MARK says that it has done so.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

from distckpt.manager import CheckpointManager

signum, saves_left, mark = signal.Signals[sys.argv[1]], int(sys.argv[2]), Path(sys.argv[3])
is_victim = json.loads(os.environ["TF_CONFIG"])["task"]["index"] == 1


def dying(method: Any) -> Any:
    """`method`, which returns a path where it has saved."""

    def called(*arguments: Any, **named: Any) -> Any:
        global saves_left  # noqa: PLW0603 - a script
        path = method(*arguments, **named)
        saves_left -= path is not None
        if saves_left == 0 and is_victim and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signum)
        return path

    return called


CheckpointManager.save = dying(CheckpointManager.save)  # type: ignore[method-assign]  # this is the doom
CheckpointManager.step_end = dying(CheckpointManager.step_end)  # type: ignore[method-assign]  # the same
sys.argv = sys.argv[4:]
runpy.run_path(sys.argv[0], run_name="__main__")
