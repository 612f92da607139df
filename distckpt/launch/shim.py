"""The first thing that runs in a worker's process; then becomes the worker's command. Imports nothing of distckpt.

    python shim.py LAUNCHER_PID COMMAND [ARGUMENT...]

Promise: when the launcher is gone, however it went, the kernel kills this process (prctl(2), PR_SET_PDEATHSIG: kept
over exec). A shim and no `preexec_fn`, which is unsafe in a process with threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h
CANNOT_RUN = 126  # as shells say it
NOT_FOUND = 127


def main(launcher: int, command: list[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != launcher:  # it went before prctl was in force
        sys.exit(128 + signal.SIGKILL)
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python at its start; an ignored signal stays so over exec
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - becoming the user's command is what this file is for
    except OSError as error:
        sys.stderr.write(f"distckpt run: {command[0]}: {error.strerror}\n")
        sys.exit(NOT_FOUND if isinstance(error, FileNotFoundError) else CANNOT_RUN)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
