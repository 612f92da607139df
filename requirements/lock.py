"""Writes the lock files `requirements/*.txt`: what `make lock` runs, in an environment that holds pip-tools.

Each file pins exact versions with the hashes of every published file, and nothing that says where it came from. Each
lists only what the locks it builds on (its `-r` lines) do not have. Pins stay as they are as long as they satisfy the
requirements; `--upgrade` takes the newest. Sources: pyproject.toml, and the `.in` files beside this one.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
COMPILE = (
    *(sys.executable, "-m", "piptools", "compile", "--quiet", "--allow-unsafe", "--generate-hashes", "--strip-extras"),
    *("--no-header", "--annotation-style=line", "--no-emit-index-url", "--no-emit-find-links"),
    *("--no-emit-trusted-host", "--no-emit-options"),
)


@dataclass(frozen=True, slots=True)
class Lock:
    """`sources` are arguments for pip-compile; `base` are the locks that this one extends."""

    name: str
    sources: tuple[str, ...]
    base: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        return HERE / f"{self.name}.txt"


LOCKS = (
    Lock("runtime", ("pyproject.toml", "requirements/build.in")),
    Lock("demo", ("--extra", "demo", "pyproject.toml"), ("runtime",)),
    Lock("test", ("pyproject.toml", "requirements/test.in"), ("runtime", "demo")),
    Lock("bench", ("requirements/bench.in",), ("runtime", "demo")),
    Lock("fuzz", ("requirements/fuzz.in",), ("runtime",)),
    Lock("lint", ("requirements/lint.in",), ("runtime", "demo", "test")),
)


def blocks(text: str) -> dict[str, str]:
    """The pins of a lock file: `name==version` with the lines that belong to it."""
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        if line and not line.startswith((" ", "#", "-")):
            current = found.setdefault(line.split()[0], [])
        if line.startswith(" ") or (line and line[0].isalnum()):
            current.append(line)
    return {pin: "\n".join(lines) for pin, lines in found.items()}


def compiled(lock: Lock, options: list[str]) -> dict[str, str]:
    known = [item for base in (*lock.base, lock.name) for item in blocks(read(base)).values()]
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "lock.txt"
        output.write_text("\n".join(known) + "\n")
        subprocess.run([*COMPILE, *options, "-o", str(output), *lock.sources], check=True, cwd=HERE.parent)
        return blocks(output.read_text())


def read(name: str) -> str:
    path = HERE / f"{name}.txt"
    return path.read_text() if path.exists() else ""


def main(options: list[str]) -> None:
    for lock in LOCKS:
        pins = compiled(lock, options)
        inherited = {pin for base in lock.base for pin in blocks(read(base))}
        own = [text for pin, text in sorted(pins.items()) if pin not in inherited]
        head = ["# Written by `make lock`; do not edit.", *(f"-r {base}.txt" for base in lock.base)]
        lock.path.write_text("\n".join([*head, *own]) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
