"""This process, as others can tell it apart, and whether another of the same machine still lives. Linux's /proc."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from distckpt.journal.records import Process

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/pid")
_START_FIELD = 22
"""Of /proc/PID/stat, counted from 1 (proc_pid_stat(5)); the second is in brackets and may hold anything."""


def this_process() -> Process:
    """Fields that the system does not tell are empty."""
    pid = os.getpid()
    return Process(
        host=socket.gethostname(), pid=pid, boot=_boot(), namespace=_namespace(), started=start_of(pid) or ""
    )


def is_gone(process: Process, here: Process) -> bool:
    """Whether `process` certainly lives no more; False also where that cannot be seen from `here`."""
    told = process.boot and process.namespace and process.started
    seen_from_here = (process.boot, process.namespace) == (here.boot, here.namespace)
    if not (told and seen_from_here):
        return False
    return start_of(process.pid) != process.started


def _boot() -> str:
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return str(_NAMESPACE.readlink())
    except OSError:
        return ""


def start_of(pid: int) -> str | None:
    """When the process that has `pid` now started, in clock ticks since boot, in digits.

    None if there is none, or it is dead and not yet waited for.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    state, started = fields[0], fields[_START_FIELD - 3]
    return None if state in ("Z", "X") else started
