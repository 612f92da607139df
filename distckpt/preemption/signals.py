"""Signals, heard at once: also while the main thread is inside an operation of TensorFlow that takes long.

Python runs a signal's handler in the main thread, and there only between two bytecodes; a collective that waits for
another worker is one. What happens at once, in C, is a byte on the wake-up descriptor (`signal.set_wakeup_fd`), which a
thread of ours reads.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from distckpt.errors import ConfigurationError

_READ_BYTES = 4096
_STOP = 0  # no signal has this number


class SignalWatch:
    """From now on, until `close`, `on_signal` is called with each of `signums` that comes, on a thread of its own.

    Handlers that were there are called too, in the main thread as ever, and stand again after `close`; Python's own for
    SIGINT only from the second time on, since it ends the program. Raises ConfigurationError outside of the main
    thread, where Python lets nobody set a handler.
    """

    def __init__(self, signums: Sequence[signal.Signals], on_signal: Callable[[signal.Signals], None]) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise ConfigurationError(
                "only the main thread can take signals: make the CheckpointManager there, or leave preemption= out"
            )
        self._on_signal = on_signal
        self._closed = False
        self._interrupted = False
        self._read, self._write = socket.socketpair()
        os.set_blocking(self._write.fileno(), False)
        self._before_fd = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        self._before: dict[int, Any] = {each: signal.signal(each, self._handle) for each in signums}
        self._thread = threading.Thread(target=self._listen, name="distckpt-signals", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Restores what was there. May be called twice, and from any thread: then the next signal does it."""
        if self._closed:
            return
        self._closed = True
        if threading.current_thread() is threading.main_thread():
            self._restore()
        self._write.send(bytes([_STOP]))
        self._thread.join(1.0)

    def _restore(self) -> None:
        for signum, before in self._before.items():
            if signal.getsignal(signum) == self._handle:
                signal.signal(signum, signal.SIG_DFL if before is None else before)
        mine = signal.set_wakeup_fd(self._before_fd)
        if mine not in (self._write.fileno(), self._before_fd):
            signal.set_wakeup_fd(mine)  # someone came after us: theirs stays

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        """In the main thread, some time after the byte was written."""
        is_first = signal.getsignal(signum) == self._handle
        if self._closed and is_first:
            self._restore()
            os.kill(os.getpid(), signum)
            return
        if is_first and not self._hears():
            self._on_signal(signal.Signals(signum))
        before = self._before[signum]
        if before is signal.default_int_handler and not self._interrupted:
            self._interrupted = True
        elif callable(before):
            before(signum, frame)

    def _hears(self) -> bool:
        """Whether the byte came to this watch, and not to someone who took the descriptor since."""
        descriptor = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        if descriptor != self._write.fileno():
            signal.set_wakeup_fd(descriptor)
        return descriptor == self._write.fileno()

    def _listen(self) -> None:
        while True:
            for signum in self._read.recv(_READ_BYTES):
                if signum == _STOP:
                    return
                if signum in self._before:
                    self._on_signal(signal.Signals(signum))
                if self._before_fd != -1:
                    with suppress(OSError):
                        os.write(self._before_fd, bytes([signum]))


def may_be_taken(signum: signal.Signals) -> bool:
    """Whether this thread may handle `signum`, and nobody but a SignalWatch does. C code that does (faulthandler) is
    seen where Linux shows it.
    """
    handler = signal.getsignal(signum)
    if threading.current_thread() is not threading.main_thread():
        return False
    if handler is not signal.SIG_DFL:
        return isinstance(getattr(handler, "__self__", None), SignalWatch)
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return True
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:")).split()[1]
    return not int(caught, 16) >> (signum - 1) & 1
