"""`distckpt doctor DIR [--json]`: whether the storage of DIR does what distckpt needs. Code 1 if it does not.

It works in a folder of its own, `.distckpt-doctor-...` in DIR, and removes it.
"""

from __future__ import annotations

import argparse
import errno
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from uuid import uuid4

from distckpt.catalog import Catalog
from distckpt.cli.text import print_json, print_lines
from distckpt.storage.contention import contend
from distckpt.storage.doctor import SPEED_BYTES, Finding, Verdict, examine, found, read_speed, write_speed
from distckpt.storage.posix import PosixStorage
from distckpt.text import columns, size

_ROOM_MIN = 3
_SPEED_KEY = "speed"


def run(arguments: argparse.Namespace) -> int:
    catalog = Catalog(arguments.directory)
    findings = [_room(catalog)]
    folder = catalog.directory / f".distckpt-doctor-{uuid4().hex}"
    try:
        folder.mkdir()
        findings += _tried(folder)
    except OSError as error:
        findings.append(Finding("writing", "broken", f"nothing can be written: {error.strerror}"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    broken = [each for each in findings if each.verdict == "broken"]
    if arguments.json:
        print_json({"ok": not broken, "findings": [asdict(each) for each in findings]})
    else:
        rows = [[each.verdict, each.check, each.words] for each in findings]
        print_lines([*columns(rows), _sentence(len(broken), catalog.directory)])
    return 1 if broken else 0


def _tried(folder: Path) -> Iterator[Finding]:
    storage = PosixStorage(folder)
    findings = list(examine(storage))
    yield from findings
    yield found("folder sync", lambda: _folder_sync(folder))
    if any(each.verdict == "broken" for each in findings):
        return
    yield found("contention", lambda: contend(folder))
    if shutil.disk_usage(folder).free < 4 * SPEED_BYTES:
        return
    yield found("writing", lambda: ("ok", *write_speed(storage, _SPEED_KEY)))
    _forget(folder / _SPEED_KEY)
    yield found("reading", lambda: ("ok", *read_speed(storage, _SPEED_KEY)))


def _room(catalog: Catalog) -> Finding:
    """A save is written whole before an old checkpoint is removed."""
    free = shutil.disk_usage(catalog.directory).free
    latest = catalog.latest
    figures = {"free_bytes": float(free)}
    if latest is None:
        return Finding("room", "ok", f"{size(free)} are free; there is no checkpoint yet to compare with", figures)
    count = free // max(1, latest.size_bytes)
    verdict: Verdict = "ok" if count >= _ROOM_MIN else "warning" if count else "broken"
    words = f"{size(free)} are free: room for {count:,} more of {size(latest.size_bytes)}, as {latest.name} is"
    return Finding("room", verdict, words, {**figures, "checkpoint_bytes": float(latest.size_bytes)})


def _folder_sync(folder: Path) -> tuple[Verdict, str, dict[str, float]]:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):
            raise
        return "warning", "folders cannot be synced: after a power loss the newest commits may be missing", {}
    finally:
        os.close(fd)
    return "ok", "names are made durable by fsync of their folder", {}


def _forget(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def _sentence(broken: int, directory: Path) -> str:
    if broken:
        return f"Do not train into {directory}: it lacks what distckpt needs, see above."
    return f"{directory} does what distckpt needs, seen from this machine."
