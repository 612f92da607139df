"""What several commands print: times, and checkpoints as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from datetime import datetime
from math import isfinite

from distckpt.model import Checkpoint


def print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def print_lines(lines: Iterable[str]) -> None:
    """What a file or a worker said may hold anything: control characters, which a terminal would obey, are escaped."""
    sys.stdout.writelines(f"{printable(line)}\n" for line in lines)


def printable(line: str) -> str:
    if line.isprintable():
        return line
    kept = (each if each.isprintable() or each == "\n" else each.encode("unicode_escape").decode() for each in line)
    return "".join(kept)


def local_time(timestamp: float) -> str:
    try:
        return datetime.fromtimestamp(timestamp).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):  # a file may say anything
        return f"{timestamp:g} s"


def checkpoint_json(checkpoint: Checkpoint) -> dict[str, object]:
    """`timestamp` in seconds since the epoch; `adopted`: plain TensorFlow wrote it; `preserved`: retention leaves it
    alone for good. JSON has no NaN: null.
    """
    return {
        "step": checkpoint.step,
        "name": checkpoint.name,
        "timestamp": checkpoint.timestamp,
        "generation": checkpoint.generation,
        "bytes": checkpoint.size_bytes,
        "adopted": checkpoint.adopted,
        "preserved": checkpoint.preserved,
        "metrics": {name: value if isfinite(value) else None for name, value in checkpoint.metrics.items()},
        "files": [{"file": file.name, "bytes": file.size_bytes} for file in checkpoint.files],
    }
