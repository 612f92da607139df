"""Slurm ends a job at its time limit, which it tells the job in SLURM_JOB_END_TIME (seconds since the epoch).

`sbatch --signal=TERM@60` sends SIGTERM so long before; without it, SIGTERM comes with the limit, and SIGKILL KillWait
(30 s) after it. Described in https://slurm.schedmd.com/sbatch.html.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from distckpt.preemption.notice import ENDS, Notify
from distckpt.preemption.source import Source

END_TIME = "SLURM_JOB_END_TIME"


def end_of_job(environ: Mapping[str, str]) -> float | None:
    """When the time limit is, in seconds since the epoch; None where it is not known, or there is none."""
    told = environ.get(END_TIME, "")
    return float(told) if told.isascii() and told.isdigit() and int(told) > 0 else None


def watch_slurm(environ: Mapping[str, str], notify: Notify, before_s: float) -> list[Source]:
    end = end_of_job(environ)
    if end is None:
        return []

    def wait(source: Source) -> None:
        source.pause(max(0.0, end - before_s - time.time()))
        notify("the time limit of Slurm", end, ENDS)

    return [Source("slurm", wait)]
