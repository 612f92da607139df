"""`distckpt probe [DIR] [--hang-timeout SECONDS]`: code 0 if all is well, for a scheduler's exec probes.

DIR: the coordinator of the job that runs there answers, with the keys that lie there. `--hang-timeout`: the worker that
writes DISTCKPT_STEP_FILE finished a step in time, or has not come to its first one. A kubelet's own gRPC probe could
not ask: it shows no client certificate.
"""

from __future__ import annotations

import argparse
import os
import time

from distckpt.cli.text import print_lines
from distckpt.errors import ConfigurationError
from distckpt.launch.health import hung
from distckpt.observe.step_file import VARIABLE, read_steps


def run(arguments: argparse.Namespace) -> int:
    if arguments.directory is None and arguments.hang_timeout is None:
        raise ConfigurationError("nothing to probe: give DIR, --hang-timeout, or both")
    if arguments.hang_timeout is not None and not _steps_in_time(arguments.hang_timeout):
        return 1
    if arguments.directory is not None:
        _ask(arguments)
    return 0


def _steps_in_time(timeout_s: float) -> bool:
    path = os.environ.get(VARIABLE)
    if not path:
        raise ConfigurationError(f"{VARIABLE} is not set: set it to the same file for the worker and the probe")
    steps = read_steps(path)
    found = hung({0: steps}, timeout_s, time.monotonic()) if steps.alive else None
    if found is not None:
        print_lines([f"no step for {found.silent_s:.0f} s, the last was {found.step}"])
    return found is None


def _ask(arguments: argparse.Namespace) -> None:
    """Raises CoordinatorUnreachable, Refused."""
    from distckpt.cli.calling import credentials_of  # noqa: PLC0415 - half a second, which the other probe need not pay
    from distckpt.rpc.operator import operator_of  # noqa: PLC0415 - the same

    with operator_of(arguments.directory, credentials_of(arguments)) as operator:
        status = operator.status()
    here = ", ".join(map(str, status.present))
    print_lines([f"job {status.job}, generation {status.generation}: workers {here} of {status.world_size} are here"])
