"""The same work on many things, on a few threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


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
