"""Several processes that want the same names at once: each name must be one process's, and all must agree whose.

Run as a script by `contend`: arguments are the directory and this process's name. It says
"ready", waits for a line, and then prints as JSON which names it took.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from distckpt.storage.doctor import Verdict
from distckpt.storage.posix import PosixStorage

PROCESSES = 4
NAMES = 50
DEADLINE_S = 120.0
_FOLDER = "contended"


def contend(directory: Path) -> tuple[Verdict, str, Mapping[str, float]]:
    """What PROCESSES processes of this machine found in `directory`. Raises StorageError, OSError."""
    taken = _race(directory)
    figures = {"processes": float(PROCESSES), "names": float(NAMES)}
    twice = [number for number in range(NAMES) if sum(number in its for its in taken.values()) > 1]
    if twice:
        words = f"{len(twice)} of {NAMES} names were taken by more than one process: two chiefs could both commit"
        return "broken", f"{words}. Use another file system, or other mount options", figures
    storage = PosixStorage(directory)
    listed = storage.keys(_FOLDER)
    for number in range(NAMES):
        owner = next((name for name, its in taken.items() if number in its), None)
        if owner is None:
            return "broken", f"{_key(number)} could be taken by none of {PROCESSES} processes", figures
        if _key(number) not in listed or storage.read(_key(number)) != owner.encode():
            return "broken", f"{_key(number)}: what one process wrote another one does not see", figures
    shared = sum(bool(its) for its in taken.values())
    words = f"{PROCESSES} processes wanted the same {NAMES} names: each was taken once (by {shared} of them)"
    return "ok", words, figures


def _race(directory: Path) -> dict[str, set[int]]:
    command = [sys.executable, "-m", __name__, str(directory)]
    with ExitStack() as stack:
        racers = {}
        for index in range(PROCESSES):
            name = f"process {index}"
            racer = subprocess.Popen(  # noqa: S603 - this very module
                [*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            stack.callback(racer.kill)
            racers[name] = racer
        deadline = threading.Timer(DEADLINE_S, _kill, racers.values())
        deadline.start()
        stack.callback(deadline.cancel)
        for racer in racers.values():
            assert racer.stdout is not None
            racer.stdout.readline()
        for racer in racers.values():
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        return {name: _result(racer) for name, racer in racers.items()}


def _kill(*racers: subprocess.Popen[str]) -> None:
    for racer in racers:
        racer.kill()


def _result(racer: subprocess.Popen[str]) -> set[int]:
    out, errors = racer.communicate()
    if racer.returncode:
        told = errors.strip().splitlines()
        raise OSError(
            told[-1] if told else f"a process ended with {racer.returncode}, or not within {DEADLINE_S:.0f} s"
        )
    return set(json.loads(out))


def _key(number: int) -> str:
    return f"{_FOLDER}/{number:04}"


def main() -> None:
    storage, name = PosixStorage(sys.argv[1]), sys.argv[2]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    taken = [number for number in range(NAMES) if storage.put_if_absent(_key(number), name.encode())]
    sys.stdout.write(json.dumps(taken))


if __name__ == "__main__":
    main()
