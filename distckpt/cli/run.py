"""`distckpt run --workers N [--max-restarts R] -- COMMAND...`"""

from __future__ import annotations

import argparse
import os

from distckpt.launch.run import run as run_job


def run(arguments: argparse.Namespace) -> int:
    command = arguments.program[1:] if arguments.program[0] == "--" else arguments.program
    return run_job(command, arguments.workers, arguments.max_restarts, os.environ)
