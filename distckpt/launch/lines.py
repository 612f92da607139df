"""Cuts what a process writes into lines, so that the output of several can be mixed without tearing one."""

from __future__ import annotations

LINE_BYTES_MAX = 1 << 20


class LineCutter:
    """Any bytes in, whole lines out, without their newline. A line above `LINE_BYTES_MAX` is cut there."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes."""
        *ends, rest = data.split(b"\n")
        lines = []
        for end in ends:
            self._parts.append(end)
            lines.append(self._take())
        self._parts.append(rest)
        self._size += len(rest)
        if self._size >= LINE_BYTES_MAX:
            lines.append(self._take())
        return lines

    def rest(self) -> list[bytes]:
        """The last line, if it had no newline. Call once, when there is no more to feed."""
        return [self._take()] if self._size else []

    def _take(self) -> bytes:
        line = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        return line
