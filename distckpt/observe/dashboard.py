"""The dashboard: one page that shows a job, and the picture that it asks for every second.

Who may see it: whoever has the token, 256 random bits. The page itself holds nothing of the job and is given to all;
it sends the token in the header `Authorization`, never in an address, so it stands in no log and no other site can send
it. There is no cookie. Only two paths exist, none of them a file's, and only GET is answered. Without TLS: it listens
on the loopback unless told otherwise.
"""

from __future__ import annotations

import hmac
import logging
import secrets
import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files

from distckpt.errors import DistckptError

log = logging.getLogger("distckpt.observe")

REQUEST_S = 10.0
CLOSE_S = 5.0
CONNECTIONS_MAX = 32
_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Dashboard:
    """Serves from construction to `close`. `picture` gives the JSON, on a thread of its own for each request.

    Raises OSError where it cannot listen.
    """

    def __init__(self, picture: Callable[[], bytes], host: str, port: int) -> None:
        self.token = secrets.token_urlsafe(32)
        self._server = _Server((host, port), picture, self.token)
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, name="distckpt-dashboard", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(CLOSE_S)


def page(nonce: str) -> bytes:
    """The whole page, its script and style inside, allowed by `nonce` alone."""
    sources = files("distckpt.observe").joinpath("page")
    html = sources.joinpath("index.html").read_text("utf-8").replace("NONCE", nonce)
    for mark, name in (("STYLE", "style.css"), ("SCRIPT", "script.js")):
        html = html.replace(mark, sources.joinpath(name).read_text("utf-8"), 1)
    return html.encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], picture: Callable[[], bytes], token: str) -> None:
        super().__init__(address, _Handler)
        self.picture = picture
        self._token = token.encode()
        self._free = threading.BoundedSemaphore(CONNECTIONS_MAX)

    def knows(self, authorization: str) -> bool:
        """Compared in constant time."""
        return hmac.compare_digest(authorization.encode("utf-8", "replace"), b"Bearer " + self._token)

    def process_request_thread(self, request: object, client_address: object) -> None:
        """At most CONNECTIONS_MAX at once: who comes beyond is turned away."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)  # type: ignore[arg-type]  # a socket, as socketserver hands it in
            return
        try:
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]  # as above
        finally:
            self._free.release()

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - socketserver's signature
        """Not on stderr: a browser that went away before it had its answer, as a rule."""
        log.debug("a request for the dashboard failed: %r", sys.exception())


class _Handler(BaseHTTPRequestHandler):
    """One connection, one request."""

    server: _Server
    timeout = REQUEST_S
    server_version = "distckpt"
    sys_version = ""

    def do_GET(self) -> None:
        if self.path == "/":
            nonce = secrets.token_urlsafe(16)
            policy = {"Content-Security-Policy": _POLICY.format(nonce=nonce)}
            self._answer(HTTPStatus.OK, "text/html; charset=utf-8", page(nonce), policy)
        elif self.path != "/picture.json":
            self._say(HTTPStatus.NOT_FOUND, "there is no such page")
        elif not self.server.knows(self.headers.get("Authorization", "")):
            self._say(HTTPStatus.UNAUTHORIZED, "the token is missing or wrong", {"WWW-Authenticate": "Bearer"})
        else:
            self._picture()

    def _picture(self) -> None:
        try:
            picture = self.server.picture()
        except (DistckptError, OSError) as error:
            self._say(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        else:
            self._answer(HTTPStatus.OK, "application/json", picture, {})

    def _say(self, status: HTTPStatus, words: str, headers: dict[str, str] | None = None) -> None:
        self._answer(status, "text/plain; charset=utf-8", words.encode(), headers or {})

    def _answer(self, status: HTTPStatus, kind: str, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, **headers, "Content-Type": kind, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Not on stderr, which is the training's."""
        log.debug("%s", format % args)
