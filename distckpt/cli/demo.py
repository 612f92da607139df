"""`distckpt demo [--workers N] [--keep DIR]`"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from distckpt.errors import ConfigurationError
from distckpt.launch.demo import Demo, DemoFailed


def run(arguments: argparse.Namespace) -> int:
    if arguments.keep is None:
        with tempfile.TemporaryDirectory(prefix="distckpt-demo-") as directory:
            return _run(arguments.workers, Path(directory))
    kept = Path(arguments.keep)
    if kept.exists() and any(kept.iterdir()):
        raise ConfigurationError(f"{kept}: not empty: give --keep a directory that is empty or absent")
    kept.mkdir(parents=True, exist_ok=True)
    code = _run(arguments.workers, kept)
    _tell(f"\nThe files are in {kept}: try `distckpt ls {kept}/killed-and-resumed`")
    return code


def _run(workers: int, directory: Path) -> int:
    try:
        Demo(workers, directory, _tell).run()
    except DemoFailed as error:
        sys.stderr.write(f"{error}\ndistckpt demo: failed\n")
        return 1
    _tell("\nAll of it held.")
    return 0


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
