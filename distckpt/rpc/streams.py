"""The agents' streams as the server writes them. Bounded: a reader that falls too far behind is cut off.

Lives on the server's event loop: not for other threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections import deque
from collections.abc import Awaitable, Callable, Iterator

import grpc

from distckpt.protocol.messages import Sender
from distckpt.rpc.checks import MESSAGE_BYTES_MAX

WAITING_MAX = 1_000
WAITING_BYTES_MAX = 2 * MESSAGE_BYTES_MAX
REPLACED_S = 1.0

Incarnation = tuple[int, str]
"""A worker's index and the name of its incarnation."""


class End(enum.Enum):
    """Why the server ends a stream."""

    REPLACED = "the same incarnation has opened another one"
    TOO_SLOW = "the reader fell too far behind"
    STOPPED = "the server stops"


class Stream:
    """One stream, from its opening to its end: of the task that opens it, and reads it.

    What waits is handed to `write` by a task that only lives as long as something waits: there are thousands of
    streams, and few of them are written to at a time. `end` is set once the server wants it to end, and says why; the
    task that reads is cancelled as soon as that can be.
    """

    def __init__(self, agent: Sender, write: Callable[[bytes], Awaitable[None]]) -> None:
        self.agent = agent
        self.incarnation: Incarnation = (agent.worker, agent.incarnation)
        self.end: End | None = None
        self._write = write
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._stands = False
        self._reader = asyncio.current_task()
        self._writer: asyncio.Task[None] | None = None

    def stand(self) -> None:
        """From now on it may be written to, and be ended: gRPC takes neither while it sends the initial metadata."""
        self._stands = True
        self._advance()

    def offer(self, message: bytes) -> None:
        if self.end is not None:
            return
        self._waiting.append(message)
        self._bytes += len(message)
        if len(self._waiting) > WAITING_MAX or self._bytes > WAITING_BYTES_MAX:
            self.finish(End.TOO_SLOW)
        self._advance()

    def finish(self, why: End) -> None:
        """Ends the stream: at once, or after what waits when the server stops."""
        if self.end is None:
            self.end = why
            if why is End.TOO_SLOW:
                self.close()
            self._advance()

    def replace(self, predecessor: Stream) -> None:
        """Takes over what waits. The predecessor is heard until its agent half-closes it, in `REPLACED_S` at most."""
        if predecessor.end is None:
            predecessor.end = End.REPLACED
            self._waiting, predecessor._waiting = predecessor._waiting, deque()
            self._bytes = predecessor._bytes
            if predecessor._reader is not None:
                asyncio.get_running_loop().call_later(REPLACED_S, predecessor._reader.cancel)

    def close(self) -> None:
        """Nothing more is written, but what gRPC has of it already."""
        self._waiting.clear()
        if self._writer is not None:
            self._writer.cancel()

    def _advance(self) -> None:
        if not self._stands or self._writer is not None:
            return
        if self._waiting:
            self._writer = asyncio.create_task(self._write_waiting())
            self._writer.add_done_callback(self._written)
        elif self.end in (End.TOO_SLOW, End.STOPPED) and self._reader is not None:
            self._reader.cancel()

    async def _write_waiting(self) -> None:
        with contextlib.suppress(grpc.aio.BaseError):  # the call has ended, which its reader hears of
            while self._waiting:
                message = self._waiting.popleft()
                self._bytes -= len(message)
                await self._write(message)

    def _written(self, _: asyncio.Task[None]) -> None:
        self._writer = None
        self._advance()


class Streams:
    """The current stream of each incarnation."""

    def __init__(self) -> None:
        self._current: dict[Incarnation, Stream] = {}

    def open(self, stream: Stream) -> None:
        """One that the same incarnation has open is replaced by it."""
        predecessor = self._current.get(stream.incarnation)
        if predecessor is not None:
            stream.replace(predecessor)
        self._current[stream.incarnation] = stream

    def close(self, stream: Stream) -> bool:
        """The stream has ended. True if it was the current one: its incarnation has none now."""
        stream.close()
        if self._current.get(stream.incarnation) is not stream:
            return False
        del self._current[stream.incarnation]
        return True

    def find(self, incarnation: Incarnation) -> Stream | None:
        return self._current.get(incarnation)

    def __iter__(self) -> Iterator[Stream]:
        return iter(tuple(self._current.values()))
