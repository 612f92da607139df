"""`distckpt run --workers N [OPTION...] -- COMMAND...`: see `distckpt run --help`, and docs/operations.md."""

from __future__ import annotations

import argparse
import os

from distckpt.errors import ConfigurationError
from distckpt.launch.job import JobSpec
from distckpt.launch.run import run as run_job

BACKOFF_S = 1.0


def run(arguments: argparse.Namespace) -> int:
    if arguments.min_workers is not None and arguments.min_workers > arguments.workers:
        raise ConfigurationError(f"--min-workers {arguments.min_workers} is more than --workers {arguments.workers}")
    command = arguments.program[1:] if arguments.program[0] == "--" else arguments.program
    spec = JobSpec(
        tuple(command),
        arguments.workers,
        os.environ,
        arguments.max_restarts,
        healthy_after_s=arguments.healthy_after,
        backoff_s=BACKOFF_S,
        min_workers=arguments.min_workers,
        hang_timeout_s=arguments.hang_timeout,
        log_dir=arguments.log_dir,
    )
    return run_job(spec)
