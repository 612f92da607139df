"""The command `distckpt`.

Exit codes: 0 all is well; 1 something is corrupt, or could not be done; 2 the command line is wrong; 3 the two differ
(`diff`). `run` and `demo` end with the code of the worker that failed first, 128 + N where signal N killed it. Every
error is one line on stderr that names the thing. TensorFlow is never imported here: the demo's workers do that in
processes of their own.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from distckpt.cli.arguments import parse
from distckpt.cli.text import printable
from distckpt.errors import CorruptData, DistckptError, StorageError

OK = 0
FAILED = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. `argv` without the program's name; default: this process's."""
    arguments = parse(sys.argv[1:] if argv is None else argv)
    try:
        code: int = import_module(arguments.module).run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output has enough (`distckpt ls DIR | head`). Python would complain again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except (DistckptError, OSError) as error:
        sys.stderr.write(f"distckpt: {printable(_place(error, arguments) + _one_line(error))}\n")
        return FAILED
    return code


def _place(error: Exception, arguments: argparse.Namespace) -> str:
    """The directory, for errors that name a file below it."""
    return f"{arguments.directory}: " if isinstance(error, CorruptData | StorageError) else ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
