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
        self._ear = _Ear.of_this_process()
        self._ear.open(self)
        self._before: dict[int, Any] = {each: signal.signal(each, self._handle) for each in signums}

    def close(self) -> None:
        """Restores what was there. May be called twice, and from any thread: then the next signal does it."""
        if self._closed:
            return
        self._closed = True
        self._ear.close(self)
        if threading.current_thread() is threading.main_thread():
            self._restore()

    def heard(self, signum: int) -> None:
        """A byte has come."""
        if signum in self._before:
            self._on_signal(signal.Signals(signum))

    def _restore(self) -> None:
        for signum, before in self._before.items():
            if signal.getsignal(signum) == self._handle:
                signal.signal(signum, signal.SIG_DFL if before is None else before)
        self._ear.release()

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        """In the main thread, some time after the byte was written."""
        is_first = signal.getsignal(signum) == self._handle
        if self._closed and is_first:
            self._restore()
            os.kill(os.getpid(), signum)
            return
        if is_first and not self._ear.hears():
            self._on_signal(signal.Signals(signum))
        before = self._before[signum]
        if before is signal.default_int_handler and not self._interrupted:
            self._interrupted = True
        elif callable(before):
            before(signum, frame)


class _Ear:
    """The wake-up descriptor, of which a process has one, and its thread. It stays; while no watch is open, whoever had
    the descriptor before has it again. The others' gets every byte too, as long as it is the file that it was: numbers
    of descriptors are given anew.
    """

    _mine: _Ear | None = None

    def __init__(self) -> None:
        self._read, self._write = socket.socketpair()
        os.set_blocking(self._write.fileno(), False)
        self._watches: list[SignalWatch] = []
        self._theirs: tuple[int, tuple[int, int]] | None = None
        threading.Thread(target=self._listen, name="distckpt-signals", daemon=True).start()

    @classmethod
    def of_this_process(cls) -> _Ear:
        if cls._mine is None:
            cls._mine = cls()
        return cls._mine

    def open(self, watch: SignalWatch) -> None:
        self._watches.append(watch)
        before = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        if before != self._write.fileno():
            self._theirs = None if before == -1 else (before, _identity(before))

    def close(self, watch: SignalWatch) -> None:
        self._watches.remove(watch)

    def release(self) -> None:
        """Gives the descriptor back where nobody needs it any more. In the main thread."""
        if not self._watches and self.hears():
            signal.set_wakeup_fd(self._others())

    def hears(self) -> bool:
        """Whether the bytes come here, and not to someone who took the descriptor since. In the main thread."""
        now = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        if now != self._write.fileno():
            signal.set_wakeup_fd(now)
        return now == self._write.fileno()

    def _others(self) -> int:
        """The descriptor that was there before; -1 if there was none, or it is another file by now."""
        if self._theirs is None:
            return -1
        descriptor, identity = self._theirs
        try:
            return descriptor if _identity(descriptor) == identity else -1
        except OSError:
            return -1

    def _listen(self) -> None:
        while True:
            for signum in self._read.recv(_READ_BYTES):
                for watch in list(self._watches):
                    watch.heard(signum)
                descriptor = self._others()
                if descriptor != -1:
                    with suppress(OSError):
                        os.write(descriptor, bytes([signum]))


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


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
