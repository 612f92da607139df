"""How far reading has come, on one line of a terminal; where stderr is none, nothing."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

from distckpt.text import size

_WIDTH = 30
_EVERY_S = 0.1
_CLEAR = "\r\x1b[K"


class Progress:
    """Of `total_bytes`. `add` may be called from any thread; `clear` before anything else is printed."""

    def __init__(
        self, total_bytes: int, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream or sys.stderr
        self._shown = self._stream.isatty()
        self._total = total_bytes
        self._done = 0
        self._clock = clock
        self._begun = clock()
        self._drawn = -_EVERY_S
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.clear()

    @property
    def bytes_per_s(self) -> float:
        return self._done / max(1e-9, self._clock() - self._begun)

    def add(self, read_bytes: int) -> None:
        with self._lock:
            self._done += read_bytes
            now = self._clock()
            if self._shown and now - self._drawn >= _EVERY_S:
                self._drawn = now
                self._write(_CLEAR + self._line())

    def clear(self) -> None:
        if self._shown:
            self._write(_CLEAR)

    def _line(self) -> str:
        share = min(1.0, self._done / max(1, self._total))
        bar = ("#" * int(share * _WIDTH)).ljust(_WIDTH)
        rate = size(int(self.bytes_per_s))
        return f"[{bar}] {share:4.0%}  {size(self._done)} of {size(self._total)}, {rate} per second"

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
