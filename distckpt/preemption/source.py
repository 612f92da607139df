"""A thread that watches one place where notices come from, and what the metadata services of clouds have in common."""

from __future__ import annotations

import http.client
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

log = logging.getLogger("distckpt")

RETRY_FIRST_S = 1.0
RETRY_MAX_S = 60.0
_CONNECT_S = 5.0
_BODY_BYTES_MAX = 65_536


def runs_on(maker: str, named_by: Path, server: str | None) -> bool:
    """Whether the firmware says in `named_by` that `maker` made this machine, or a metadata server is named; nothing is
    sent to find out.
    """
    if server:
        return True
    try:
        return named_by.read_text().startswith(maker)
    except OSError:
        return False


class Stopped(Exception):
    """The source was closed."""


class Source:
    """Calls `watch(self)` on a thread until it returns: there is nothing more to come. After an error it is called
    again, a little later each time. Waits of `watch` go through `pause` and `request`, which raise Stopped once closed.
    """

    def __init__(self, name: str, watch: Callable[[Source], None], retry_first_s: float = RETRY_FIRST_S) -> None:
        self._name = name
        self._watch = watch
        self._retry_first_s = retry_first_s
        self._stopping = threading.Event()
        self._connection: http.client.HTTPConnection | None = None
        self._thread = threading.Thread(target=self._run, name=f"distckpt-{name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread: it is not waited for longer than a moment. May be called twice."""
        self._stopping.set()
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)
        if self._thread is not threading.current_thread():
            self._thread.join(1.0)

    def pause(self, seconds: float) -> None:
        if self._stopping.wait(seconds):
            raise Stopped

    def request(
        self, method: str, host: str, path: str, headers: Mapping[str, str], answer_s: float
    ) -> tuple[int, str, Mapping[str, str]]:
        """One request over plain HTTP (these services speak nothing else, to this machine alone): the status, the body,
        the headers. Raises OSError and http.client.HTTPException.
        """
        connection = http.client.HTTPConnection(host, timeout=_CONNECT_S)
        try:
            connection.connect()
            self._connection = connection
            connection.sock.settimeout(answer_s)
            if self._stopping.is_set():
                raise Stopped
            connection.request(method, path, headers=dict(headers))
            answer = connection.getresponse()
            body = answer.read(_BODY_BYTES_MAX).decode(errors="replace")
            return answer.status, body, {name.lower(): value for name, value in answer.getheaders()}
        finally:
            self._connection = None
            connection.close()

    def _run(self) -> None:
        wait_s = self._retry_first_s
        while not self._stopping.is_set():
            try:
                self._watch(self)
            except Stopped:
                return
            except (OSError, http.client.HTTPException, ValueError) as error:
                if self._stopping.is_set():
                    return
                told = log.warning if wait_s == self._retry_first_s else log.debug
                told("%s cannot be watched now: %s: %s", self._name, type(error).__name__, error)
                self._stopping.wait(wait_s)
                wait_s = min(2 * wait_s, RETRY_MAX_S)
            else:
                return
