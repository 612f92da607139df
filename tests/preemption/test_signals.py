"""Signals are heard at once, handlers that were there keep their place, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest

from distckpt.errors import ConfigurationError
from distckpt.preemption.signals import SignalWatch, may_be_taken

DEADLINE_S = 60.0

Watching = Callable[..., SignalWatch]


@pytest.fixture
def heard() -> SimpleQueue[signal.Signals]:
    return SimpleQueue()


@pytest.fixture
def watch(heard: SimpleQueue[signal.Signals]) -> Iterator[Watching]:
    """Makes watches, and puts back what was there before the test, whatever it did.

    Ctrl-C is as Python has it: a shell has a process in its background ignore it.
    """
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    made: list[SignalWatch] = []

    def make(*signums: signal.Signals) -> SignalWatch:
        made.append(SignalWatch(signums, heard.put))
        return made[-1]

    yield make
    for each in reversed(made):
        each.close()
    for signum, handler in before.items():
        signal.signal(signum, handler)


def test_a_signal_is_heard_and_the_handler_that_was_there_is_called(
    watch: Watching, heard: SimpleQueue[signal.Signals]
) -> None:
    called: list[int] = []
    signal.signal(signal.SIGTERM, lambda signum, _: called.append(signum))
    watch(signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    assert heard.get(timeout=DEADLINE_S) is signal.SIGTERM
    assert called == [signal.SIGTERM]


def test_closing_puts_back_what_was_there(watch: Watching) -> None:
    def handler(*_: object) -> None:
        pass

    signal.signal(signal.SIGTERM, handler)
    watch(signal.SIGTERM, signal.SIGINT).close()
    assert signal.getsignal(signal.SIGTERM) is handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.set_wakeup_fd(-1) == -1


def test_the_first_ctrl_c_is_a_notice_and_the_second_is_pythons(
    watch: Watching, heard: SimpleQueue[signal.Signals]
) -> None:
    watch(signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)
    assert heard.get(timeout=DEADLINE_S) is signal.SIGINT
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    assert heard.get(timeout=DEADLINE_S) is signal.SIGINT, "or the next test would hear of it"


def test_whoever_waited_for_the_byte_before_has_it_too(watch: Watching, heard: SimpleQueue[signal.Signals]) -> None:
    theirs, wakeup = socket.socketpair()
    with theirs, wakeup:
        os.set_blocking(wakeup.fileno(), False)
        signal.set_wakeup_fd(wakeup.fileno())
        made = watch(signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert heard.get(timeout=DEADLINE_S) is signal.SIGUSR1
        theirs.settimeout(DEADLINE_S)
        assert theirs.recv(1) == bytes([signal.SIGUSR1])
        made.close()
        assert signal.set_wakeup_fd(-1) == wakeup.fileno()


def test_a_descriptor_whose_number_was_given_anew_gets_nothing(
    watch: Watching, heard: SimpleQueue[signal.Signals], tmp_path: Path
) -> None:
    theirs, wakeup = socket.socketpair()
    os.set_blocking(wakeup.fileno(), False)
    signal.set_wakeup_fd(wakeup.fileno())
    made = watch(signal.SIGUSR1)
    with (tmp_path / "a checkpoint").open("wb") as file:
        os.dup2(file.fileno(), wakeup.fileno())
        os.kill(os.getpid(), signal.SIGUSR1)
        assert heard.get(timeout=DEADLINE_S) is signal.SIGUSR1
        made.close()
    wakeup.close()
    theirs.close()
    assert signal.set_wakeup_fd(-1) == -1
    assert (tmp_path / "a checkpoint").read_bytes() == b""


def test_a_signal_is_heard_also_when_someone_took_the_descriptor(
    watch: Watching, heard: SimpleQueue[signal.Signals]
) -> None:
    watch(signal.SIGUSR1)
    theirs, wakeup = socket.socketpair()
    with theirs, wakeup:
        os.set_blocking(wakeup.fileno(), False)
        signal.set_wakeup_fd(wakeup.fileno())
        os.kill(os.getpid(), signal.SIGUSR1)
        assert heard.get(timeout=DEADLINE_S) is signal.SIGUSR1
        assert signal.set_wakeup_fd(-1) == wakeup.fileno()


def test_two_watches_both_hear_and_either_may_go_first(watch: Watching, heard: SimpleQueue[signal.Signals]) -> None:
    first, _ = watch(signal.SIGUSR1), watch(signal.SIGUSR1)
    first.close()
    os.kill(os.getpid(), signal.SIGUSR1)
    assert heard.get(timeout=DEADLINE_S) is signal.SIGUSR1
    assert heard.empty()


def test_outside_of_the_main_thread_it_is_refused_and_says_what_to_do() -> None:
    errors: list[Exception] = []

    def make() -> None:
        try:
            SignalWatch([signal.SIGTERM], lambda _: None)
        except ConfigurationError as error:
            errors.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    assert "make the CheckpointManager there" in str(errors[0])


def test_a_signal_that_is_somebody_elses_is_left_alone(watch: Watching) -> None:
    assert may_be_taken(signal.SIGUSR1)
    watch(signal.SIGUSR1)
    assert may_be_taken(signal.SIGUSR1), "by one more of ours"
    signal.signal(signal.SIGUSR1, lambda *_: None)
    assert not may_be_taken(signal.SIGUSR1)


IN_C = """
import ctypes, os, signal, sys, threading
from distckpt.preemption.signals import SignalWatch, may_be_taken
import faulthandler

libc = ctypes.CDLL(None)
mutex = ctypes.create_string_buffer(256)  # a pthread_mutex_t, PTHREAD_MUTEX_INITIALIZER
libc.pthread_mutex_lock(mutex)

def heard(signum):
    print(signum.name, flush=True)
    libc.pthread_mutex_unlock(mutex)

faulthandler.register(signal.SIGUSR2)
assert not may_be_taken(signal.SIGUSR2)
watch = SignalWatch([signal.SIGTERM], heard)
print("blocked", flush=True)
libc.pthread_mutex_lock(mutex)  # the main thread is in C, and no signal gets it out
print("free", flush=True)
watch.close()
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_signal_is_heard_while_the_main_thread_is_in_c() -> None:
    with subprocess.Popen([sys.executable, "-c", IN_C], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "blocked\n"
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=DEADLINE_S)[0] == "SIGTERM\nfree\n"
    assert process.returncode == -signal.SIGTERM, "after close the signal does what it did before"
