"""One thread that does blocking things one after the other: writing shares, committing, verifying.

Not a ThreadPoolExecutor: that one refuses work once the interpreter begins to end, and a save in flight must still be
finished then.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

log = logging.getLogger("distckpt.runtime")


class Lane:
    """A daemon thread with a queue. A task reports through what it calls; one that raises is a bug and is logged."""

    def __init__(self, name: str) -> None:
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"distckpt-{name}", daemon=True)
        self._thread.start()

    def submit(self, task: Callable[[], None]) -> None:
        self._tasks.put(task)

    def close(self, timeout_s: float) -> bool:
        """Lets the tasks before this call finish, for up to `timeout_s`; says whether they did."""
        self._tasks.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                task()
            except Exception:
                log.exception("a task of %s failed", self._thread.name)
