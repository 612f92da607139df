"""`distckpt run`: a local job whose workers' lines appear here, each with its worker's name before it."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from contextlib import closing
from typing import IO

from distckpt.errors import ConfigurationError
from distckpt.launch.job import JobSpec, LocalJob
from distckpt.launch.process import Stream

CLEAR_LINE = b"\r\x1b[K"  # to the line's start, and erase to its end (ECMA-48, EL)


class Console:
    """Writes whole lines, at once. When nobody reads any more (a closed pipe), the job is asked to end with SIGTERM.

    Where `stderr` is a terminal, `show` keeps one line below all others, which is written over.
    """

    def __init__(self, stdout: IO[bytes], stderr: IO[bytes]) -> None:
        self._files: dict[Stream, IO[bytes]] = {"stdout": stdout, "stderr": stderr}
        self._shown = b""

    def line(self, worker: int, stream: Stream, text: bytes) -> None:
        self._above(stream, b"[worker %d] %s\n" % (worker, text))

    def say(self, text: str) -> None:
        self._above("stderr", f"[distckpt] {text}\n".encode())

    def show(self, text: str) -> None:
        """Cut to the terminal's width: a line that wraps could not be written over."""
        width = shutil.get_terminal_size().columns
        self._shown = f"[distckpt] {text}"[: width - 1].encode()
        self._write("stderr", CLEAR_LINE + self._shown)

    def close(self) -> None:
        """The line that was shown goes."""
        self._above("stderr", b"")
        self._shown = b""

    def _above(self, stream: Stream, data: bytes) -> None:
        if self._shown:
            self._write("stderr", CLEAR_LINE)
        self._write(stream, data)
        if self._shown and data:
            self._write("stderr", self._shown)

    def _write(self, stream: Stream, data: bytes) -> None:
        file = self._files.get(stream)
        if file is None:
            return
        try:
            file.write(data)
            file.flush()
        except BrokenPipeError:
            del self._files[stream]
            os.kill(os.getpid(), signal.SIGTERM)


def run(spec: JobSpec) -> int:
    """Runs the job on this machine. Returns the exit code (`launch.job.LocalJob.run`).

    Raises ConfigurationError if the command does not exist, OSError if the folder for logs cannot be made.
    """
    program = spec.command[0]
    if shutil.which(program, path=spec.environ.get("PATH")) is None:
        raise ConfigurationError(f"{program}: no such command: give the program after --, as a shell finds it")
    console = Console(sys.stdout.buffer, sys.stderr.buffer)
    show = console.show if sys.stderr.isatty() else None
    with closing(console):
        return LocalJob(spec, console.line, console.say, show).run()
