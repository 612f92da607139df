"""Runs examples/exact_resume.py; in the first start worker 1 kills itself between two saves. See test_exact_resume.py.

Usage: doomed_resume.py DIRECTORY, with TF_CONFIG set.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import distckpt

EXAMPLE = Path(__file__).parents[2] / "examples" / "exact_resume.py"
VICTIM = 1
KILLED_IN = 18
"""In the second epoch, which has 12.5 steps; the saves are at every fourth step."""

step_end = distckpt.CheckpointManager.step_end


def doomed(manager: distckpt.CheckpointManager, step: int, metrics: Mapping[str, float] | None = None) -> str | None:
    path = step_end(manager, step, metrics)
    told = Path(f"{sys.argv[1]}-killed")
    if step == KILLED_IN and json.loads(os.environ["TF_CONFIG"])["task"]["index"] == VICTIM and not told.exists():
        manager.wait()  # what it saved last is whole: its own state in it, too
        told.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return path


distckpt.CheckpointManager.step_end = doomed  # type: ignore[method-assign]  # the example stays as it is
runpy.run_path(str(EXAMPLE), run_name="__main__")
