"""`distckpt run`: a local job whose workers' lines appear here, each with its worker's name before it."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import IO

from distckpt.errors import ConfigurationError
from distckpt.launch.job import JobSpec, LocalJob
from distckpt.launch.process import Stream


class Console:
    """Writes whole lines, at once. When nobody reads any more (a closed pipe), the job is asked to end with SIGTERM."""

    def __init__(self, stdout: IO[bytes], stderr: IO[bytes]) -> None:
        self._files: dict[Stream, IO[bytes]] = {"stdout": stdout, "stderr": stderr}

    def line(self, worker: int, stream: Stream, text: bytes) -> None:
        self._write(stream, b"[worker %d] %s\n" % (worker, text))

    def say(self, text: str) -> None:
        self._write("stderr", f"[distckpt] {text}\n".encode())

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


def run(command: Sequence[str], workers: int, max_restarts: int, environ: Mapping[str, str]) -> int:
    """Runs `command` on `workers` workers of this machine. Returns the exit code (`launch.job.LocalJob.run`).

    Raises ConfigurationError if the command does not exist.
    """
    if shutil.which(command[0], path=environ.get("PATH")) is None:
        raise ConfigurationError(f"{command[0]}: no such command: give the program after --, as a shell finds it")
    console = Console(sys.stdout.buffer, sys.stderr.buffer)
    spec = JobSpec(tuple(command), workers, environ, max_restarts)
    return LocalJob(spec, console.line, console.say).run()
