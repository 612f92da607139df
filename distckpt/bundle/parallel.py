"""The same work on many things, on a few threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")

READERS_MAX = 8
"""A checksum takes a core some 5 GB/s or more; more than a few only disturb a disk."""


def for_each(work: Callable[[T], None], things: Iterable[T], threads: int) -> None:
    """Calls `work` on each of `things`, in any order. All threads have ended when it returns or raises.

    The first error that arises is raised; nothing is begun after it. Not an executor of `concurrent.futures`: that one
    refuses work when the interpreter ends, and a save in flight is finished then.
    """
    queue = iter(things)
    lock = threading.Lock()
    errors: list[BaseException] = []

    def work_off() -> None:
        while True:
            with lock:
                thing = next(queue, None)
            if thing is None or errors:
                return
            try:
                work(thing)
            except BaseException as error:  # noqa: BLE001 - raised below, in the caller's thread
                errors.append(error)

    helpers = [threading.Thread(target=work_off, name="distckpt-bundle", daemon=True) for _ in range(threads - 1)]
    for helper in helpers:
        helper.start()
    work_off()
    for helper in helpers:
        helper.join()
    if errors:
        raise errors[0]


def readers() -> int:
    """Threads for reading where nothing else wants the processor, as in a restore: one for each core that this process
    may use, up to `READERS_MAX`; two at least, so that one sums while the other waits for the disk. What a save may
    take beside a training is another question.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # macOS has none
    return max(2, min(READERS_MAX, len(affinity(0)) if affinity else os.cpu_count() or 1))
