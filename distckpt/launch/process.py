"""One worker's process: started through the shim, in a session of its own, its output cut into lines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import IO, Literal

from distckpt.launch import shim
from distckpt.launch.lines import LineCutter

Stream = Literal["stdout", "stderr"]
Sink = Callable[[int, Stream, bytes], None]
"""Takes each line of output: the worker, where it was written, the line without its newline."""

READ_BYTES = 1 << 16


class Pipe:
    """One stream of a worker. Reading never blocks."""

    def __init__(self, worker: int, stream: Stream, file: IO[bytes], sink: Sink) -> None:
        self._worker = worker
        self._stream: Stream = stream
        self._file = file
        self._sink = sink
        self._cutter = LineCutter()
        os.set_blocking(file.fileno(), False)

    def fileno(self) -> int:
        return self._file.fileno()

    def read(self) -> bool:
        """Passes on what is there now. False when there was nothing, or nothing will come any more."""
        try:
            data = os.read(self.fileno(), READ_BYTES)
        except BlockingIOError:
            return False
        self._pass_on(self._cutter.feed(data))
        return bool(data)

    def close(self) -> None:
        while self.read():
            pass
        self._pass_on(self._cutter.rest())
        self._file.close()

    def _pass_on(self, lines: list[bytes]) -> None:
        for line in lines:
            self._sink(self._worker, self._stream, line)


class WorkerProcess:
    """Started by the constructor, from a thread that lives as long as the worker may: its end is the worker's end."""

    def __init__(self, worker: int, command: Sequence[str], environ: Mapping[str, str], sink: Sink) -> None:
        self.worker = worker
        self._process = subprocess.Popen(  # noqa: S603 - running the user's command is what it is for
            [sys.executable, "-I", "-S", shim.__file__, str(os.getpid()), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environ),
            start_new_session=True,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self.pipes = (
            Pipe(worker, "stdout", self._process.stdout, sink),
            Pipe(worker, "stderr", self._process.stderr, sink),
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ended(self) -> bool:
        """Whether the process has ended. It stays to be reaped: until then its group's number is not given away."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def send(self, signum: int) -> None:
        """Signals the worker and what it started in its session."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signum)

    def reap(self) -> int:
        """Kills what is left of the group, passes on the last of the output; the exit code, as `subprocess` says it."""
        self.send(signal.SIGKILL)
        code = self._process.wait()
        for pipe in self.pipes:
            pipe.close()
        return code
