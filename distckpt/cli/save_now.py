"""`distckpt save-now DIR [--timeout SECONDS] [--json]`: has a running job save at the next step that it can, and waits
for the commit. Code 1 where nothing was committed in time; the reason says whether it may still be.
"""

from __future__ import annotations

import argparse
import time

from distckpt.cli.calling import credentials_of
from distckpt.cli.text import print_json, print_lines
from distckpt.errors import error_from
from distckpt.rpc.operator import operator_of


def run(arguments: argparse.Namespace) -> int:
    begun = time.monotonic()
    with operator_of(arguments.directory, credentials_of(arguments)) as operator:
        answer = operator.save_now("distckpt save-now", arguments.timeout)
    if answer.cause is not None and not arguments.json:
        raise error_from(answer.cause)
    seconds = time.monotonic() - begun
    if arguments.json:
        cause = answer.cause
        print_json(
            {
                "committed": cause is None,
                "name": answer.name or None,
                "step": None if cause else answer.step,
                "seconds": seconds,
                "error": None if cause is None else {"kind": cause.kind, "message": cause.message},
            }
        )
    else:
        print_lines([f"{answer.name} is committed, {seconds:.1f} s after it was asked for."])
    return 0 if answer.cause is None else 1
