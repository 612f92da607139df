"""The dashboard's server: who is let in, what it answers, and that the page is one piece that asks nobody else."""

from __future__ import annotations

import http.client
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from distckpt.errors import StorageError
from distckpt.observe import dashboard as module
from distckpt.observe.dashboard import Dashboard, page

JSON = b'{"job": "digits"}'


@pytest.fixture
def serve() -> Iterator[Callable[..., Dashboard]]:
    opened: list[Dashboard] = []

    def begin(picture: Callable[[], bytes] = lambda: JSON) -> Dashboard:
        opened.append(Dashboard(picture, "127.0.0.1", 0))
        return opened[-1]

    yield begin
    for each in opened:
        each.close()


def ask(dashboard: Dashboard, path: str, token: str | None = None, method: str = "GET") -> tuple[int, bytes, Any]:
    connection = http.client.HTTPConnection(dashboard.url.removeprefix("http://").rstrip("/"), timeout=10)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body, answer.headers


def test_the_picture_is_for_those_who_have_the_token(serve: Callable[..., Dashboard]) -> None:
    dashboard = serve()
    assert ask(dashboard, "/picture.json", dashboard.token)[:2] == (200, JSON)
    for wrong in (None, "", "wrong", dashboard.token[:-1], f"{dashboard.token}x", "ä" * 43):
        status, body, _ = ask(dashboard, "/picture.json", wrong and wrong.encode().decode("latin-1"))
        assert status == 401
        assert b"digits" not in body


def test_every_dashboard_has_a_token_of_its_own(serve: Callable[..., Dashboard]) -> None:
    one, other = serve(), serve()
    assert one.token != other.token
    assert len(one.token) >= 43  # 256 bits
    assert ask(one, "/picture.json", other.token)[0] == 401


@pytest.mark.parametrize(
    "path",
    [
        "/../observatory.py", "/page/script.js", "/%2e%2e/picture.py", "//etc/passwd", "/etc/passwd", "/picture.json/",
        "/picture.json?token=x", "http://127.0.0.1/picture.json", "*",
    ],
)  # fmt: skip
def test_no_other_path_is_there_with_the_token_or_without(path: str, serve: Callable[..., Dashboard]) -> None:
    dashboard = serve()
    assert ask(dashboard, path, dashboard.token)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE"])
def test_nothing_can_be_done_but_looked_at(method: str, serve: Callable[..., Dashboard]) -> None:
    dashboard = serve()
    assert ask(dashboard, "/picture.json", dashboard.token, method)[0] == 501


def test_a_picture_that_cannot_be_had_just_now_is_told_of(serve: Callable[..., Dashboard]) -> None:
    def fail() -> bytes:
        raise StorageError("the storage does not answer")

    dashboard = serve(fail)
    status, body, _ = ask(dashboard, "/picture.json", dashboard.token)
    assert (status, body) == (503, b"the storage does not answer")


def test_the_page_holds_nothing_of_the_job_and_its_policy_lets_nothing_else_in(serve: Callable[..., Dashboard]) -> None:
    dashboard = serve()
    status, body, headers = ask(dashboard, "/")
    policy = headers["Content-Security-Policy"]
    assert status == 200
    assert dashboard.token.encode() not in body
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    (nonce,) = set(re.findall(r"'nonce-([\w-]+)'", policy))
    assert body.count(f'nonce="{nonce}"'.encode()) == 2
    assert ask(dashboard, "/")[2]["Content-Security-Policy"] != policy  # a nonce is used once
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"


def test_the_page_is_one_piece() -> None:
    text = page("once").decode()
    assert text.count("<script") == text.count("<style") == 1
    assert set(re.findall(r"https?://[^\"'\s]+", text)) == {"http://www.w3.org/2000/svg"}  # a name, fetched by nobody
    assert not re.findall(r"\s(?:src|href|on\w+|style)=", text)
    assert "innerHTML" not in text
    assert not re.findall(r"\b(?:eval|insertAdjacentHTML|document\.write|outerHTML)\b", text)


def test_who_keeps_connections_open_is_turned_away_and_the_others_are_served(
    serve: Callable[..., Dashboard], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CONNECTIONS_MAX", 2)
    dashboard = serve()
    host, port = dashboard.url.removeprefix("http://").rstrip("/").split(":")
    held = [socket.create_connection((host, int(port)), timeout=10) for _ in range(3)]
    assert held[2].recv(1) == b""  # closed at once; the two before it are waited for
    for each in held:
        each.close()
