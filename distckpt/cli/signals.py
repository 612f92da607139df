"""Commands that go on until they are asked to end."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Asked:
    """Whether SIGINT or SIGTERM came, as a byte in a pipe that stays there.

    No `threading.Event` that a handler sets: the kernel may hand the signal to any thread, the handler then waits for
    the main thread to run Python again, and a main thread inside `Event.wait` never does. The byte is written in C, by
    whichever thread was handed the signal (`signal.set_wakeup_fd`).
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits until it came, `timeout_s` at most (None: without end). Returns whether it did."""
        return bool(select.select([self._descriptor], [], [], timeout_s)[0])


@contextmanager
def until_asked() -> Iterator[Asked]:
    """What Ctrl-C and SIGTERM tell: an end as any other, without a stack. Main thread only."""
    heard, told = os.pipe()
    os.set_blocking(told, False)
    wakeup = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    before = {each: signal.signal(each, lambda *_: None) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield Asked(heard)
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
        signal.set_wakeup_fd(wakeup)
        os.close(told)
        os.close(heard)
