"""The same work on many things, on a few threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def for_each(work: Callable[[T], None], things: Iterable[T], threads: int) -> None:
    """Calls `work` on each of `things`, in any order. All threads have ended when it returns or raises.

    The first error that arises is raised; nothing is begun after it.
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
            except BaseException as error:
                errors.append(error)
                raise

    with ThreadPoolExecutor(threads, thread_name_prefix="distckpt-bundle") as pool:
        for _ in range(threads):
            pool.submit(work_off)
    if errors:
        raise errors[0]
