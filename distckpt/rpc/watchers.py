"""What waits to be sent to each incarnation that watches. Bounded: a reader that falls too far behind is cut off.

Lives on the server's event loop: not for other threads.
"""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import Iterator

from distckpt.protocol.messages import Sender
from distckpt.rpc.checks import MESSAGE_BYTES_MAX

WAITING_MAX = 1_000
WAITING_BYTES_MAX = 2 * MESSAGE_BYTES_MAX

Incarnation = tuple[int, str]
"""A worker's index and the name of its incarnation."""


class End(enum.Enum):
    """Why the server ends a stream."""

    REPLACED = "the same incarnation watches again"
    TOO_SLOW = "the reader fell too far behind"
    STOPPED = "the server stops"


class Watcher:
    """One stream, from its opening to its end: of the task that opens it, which writes what `next` gives.

    `end` is set once the server wants it to end, and says why. Where nothing more must be written, not even what is
    being written now, the task is cancelled too.
    """

    def __init__(self, receiver: Sender) -> None:
        self.incarnation: Incarnation = (receiver.worker, receiver.incarnation)
        self.end: End | None = None
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._changed: asyncio.Future[None] | None = None  # there are thousands: an Event, and a task for it, take more
        self._writer = asyncio.current_task()

    @property
    def is_cut(self) -> bool:
        return self.end is not None and self.end is not End.STOPPED

    def offer(self, message: bytes) -> None:
        if self.end is not None:
            return
        self._waiting.append(message)
        self._bytes += len(message)
        if len(self._waiting) > WAITING_MAX or self._bytes > WAITING_BYTES_MAX:
            self.finish(End.TOO_SLOW)
        self._wake()

    def finish(self, why: End) -> None:
        """Ends the stream: at once, or after what waits when the server stops."""
        if self.end is None:
            self.end = why
            if self.is_cut and self._writer is not None:
                self._waiting.clear()
                self._writer.cancel()
            self._wake()

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    async def next(self) -> bytes | None:
        """The next message, as soon as there is one; None once the stream ends."""
        while not self._waiting:
            if self.end is not None:
                return None
            self._changed = asyncio.get_running_loop().create_future()
            await self._changed
        message = self._waiting.popleft()
        self._bytes -= len(message)
        return message


class Watchers:
    """The current stream of each incarnation."""

    def __init__(self) -> None:
        self._current: dict[Incarnation, Watcher] = {}

    def open(self, receiver: Sender) -> Watcher:
        """A new stream; one that the same incarnation has open is replaced by it."""
        watcher = Watcher(receiver)
        predecessor = self._current.get(watcher.incarnation)
        if predecessor is not None:
            predecessor.finish(End.REPLACED)
        self._current[watcher.incarnation] = watcher
        return watcher

    def close(self, watcher: Watcher) -> bool:
        """The stream has ended. True if it was the current one: nobody watches for its incarnation now."""
        if self._current.get(watcher.incarnation) is not watcher:
            return False
        del self._current[watcher.incarnation]
        return True

    def find(self, incarnation: Incarnation) -> Watcher | None:
        return self._current.get(incarnation)

    def __iter__(self) -> Iterator[Watcher]:
        return iter(tuple(self._current.values()))
