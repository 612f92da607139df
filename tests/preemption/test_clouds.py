"""The clients of the clouds' metadata services, against local servers that speak as those services do.

The services themselves cannot be had here: what the servers say is written down from their documentation.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from distckpt.preemption import aws, gce, slurm
from distckpt.preemption.source import Source

DEADLINE_S = 60.0
Notice = tuple[str, float, bool]
TOKEN = "a token"


class Server:
    """`values` by path; `answer` says what a request gets. What was asked stands in `asked`."""

    def __init__(self, answer: Callable[[Server, Any], tuple[int, str, dict[str, str]]]) -> None:
        self.values: dict[str, str] = {}
        self.version = 1
        self.changed = threading.Condition()
        self.asked: list[str] = []
        self.trouble: list[int] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(f"{self.command} {urlsplit(self.path).path}")
                status, body, headers = (outer.trouble.pop(), "", {}) if outer.trouble else answer(outer, self)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body.encode())

            do_PUT = do_GET  # noqa: N815 - BaseHTTPRequestHandler's name

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that has gone is no error
        self.host = f"127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def set(self, path: str, value: str) -> None:
        with self.changed:
            self.values[path] = value
            self.version += 1
            self.changed.notify_all()

    def close(self) -> None:
        self.set("the end", "")
        self.http.shutdown()
        self.http.server_close()


def google(server: Server, request: Any) -> tuple[int, str, dict[str, str]]:
    """Waits for a change since `last_etag`, as `wait_for_change` says."""
    url = urlsplit(request.path)
    asked = {name: values[0] for name, values in parse_qs(url.query).items()}
    if request.headers.get("Metadata-Flavor") != "Google" or asked["wait_for_change"] != "true":
        return 403, "", {}
    with server.changed:
        server.changed.wait_for(lambda: asked["last_etag"] != str(server.version), float(asked["timeout_sec"]))
        return 200, server.values[url.path], {"Metadata-Flavor": "Google", "ETag": str(server.version)}


def amazon(server: Server, request: Any) -> tuple[int, str, dict[str, str]]:
    if request.command == "PUT":
        fit = request.path == "/latest/api/token" and request.headers.get("X-aws-ec2-metadata-token-ttl-seconds")
        return (200, TOKEN, {}) if fit else (400, "", {})
    if request.headers.get("X-aws-ec2-metadata-token") != TOKEN:
        return 401, "", {}
    value = server.values.get(request.path)
    return (404, "", {}) if value is None else (200, value, {})


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    made: list[Server] = []

    def start(answer: Any) -> Server:
        made.append(Server(answer))
        return made[-1]

    yield start
    for each in made:
        each.close()


@pytest.fixture
def watching() -> Iterator[Callable[[list[Source]], None]]:
    """Closes sources after the test."""
    made: list[Source] = []
    yield made.extend
    for each in made:
        each.close()


@pytest.fixture
def notices() -> SimpleQueue[Notice]:
    return SimpleQueue()


PREEMPTED = "/computeMetadata/v1/instance/preempted"
MAINTENANCE = "/computeMetadata/v1/instance/maintenance-event"


@pytest.fixture
def at_google(serve: Any, watching: Any, notices: SimpleQueue[Notice]) -> Server:
    server: Server = serve(google)
    server.values = {PREEMPTED: "FALSE", MAINTENANCE: "NONE"}
    watching(gce.watch_gce({gce.HOST: server.host}, lambda *notice: notices.put(notice)))
    return server


def test_a_preempted_machine_of_google_is_noticed_at_once(at_google: Server, notices: SimpleQueue[Notice]) -> None:
    at_google.set(PREEMPTED, "TRUE")
    source, deadline, final = notices.get(timeout=DEADLINE_S)
    assert "Google" in source
    assert 0 < deadline - time.time() <= gce.PREEMPTED_S
    assert final
    assert notices.empty(), "what did not change is no notice"


def test_a_live_migration_only_warns_and_a_termination_ends(at_google: Server, notices: SimpleQueue[Notice]) -> None:
    at_google.set(MAINTENANCE, "MIGRATE_ON_HOST_MAINTENANCE")
    _, deadline, final = notices.get(timeout=DEADLINE_S)
    assert (deadline, final) == (float("inf"), False)
    at_google.set(MAINTENANCE, "NONE")
    at_google.set(MAINTENANCE, "TERMINATE_ON_HOST_MAINTENANCE")
    _, deadline, final = notices.get(timeout=DEADLINE_S)
    assert 0 < deadline - time.time() <= gce.MAINTENANCE_S
    assert final


def test_a_server_that_is_not_googles_is_not_believed(serve: Any) -> None:
    server: Server = serve(lambda *_: (200, "TRUE", {}))
    notices: list[Notice] = []
    refused = threading.Event()

    def follow(source: Source) -> None:
        try:
            gce._follow(source, server.host, "preempted", lambda value: bool(notices.append((value, 0.0, True))))
        except ValueError:
            refused.set()

    source = Source("test", follow)
    assert refused.wait(DEADLINE_S)
    source.close()
    assert notices == []


ACTION = "/latest/meta-data/spot/instance-action"
REBALANCE = "/latest/meta-data/events/recommendations/rebalance"


@pytest.fixture
def at_amazon(serve: Any, watching: Any, notices: SimpleQueue[Notice]) -> Server:
    server: Server = serve(amazon)
    environ = {aws.ENDPOINT: f"http://{server.host}"}
    watching(aws.watch_aws(environ, lambda *notice: notices.put(notice), poll_s=0.01))
    return server


def test_a_spot_machine_of_amazon_is_told_when_it_ends(at_amazon: Server, notices: SimpleQueue[Notice]) -> None:
    at_amazon.set(ACTION, json.dumps({"action": "terminate", "time": "2030-09-18T08:22:00Z"}))
    source, deadline, final = notices.get(timeout=DEADLINE_S)
    assert "terminate" in source
    assert (deadline, final) == (1_915_950_120.0, True)


def test_a_rebalance_recommendation_only_warns_and_comes_once(at_amazon: Server, notices: SimpleQueue[Notice]) -> None:
    at_amazon.set(REBALANCE, json.dumps({"noticeTime": "2030-10-27T08:22:00Z"}))
    assert notices.get(timeout=DEADLINE_S)[1:] == (float("inf"), False)
    at_amazon.set(ACTION, json.dumps({"action": "stop", "time": "2030-10-27T08:24:00Z"}))
    assert notices.get(timeout=DEADLINE_S)[2]
    assert notices.empty()


def test_a_token_that_has_expired_is_renewed(serve: Any, watching: Any, notices: SimpleQueue[Notice]) -> None:
    server: Server = serve(amazon)
    server.trouble = [401]
    server.values = {ACTION: json.dumps({"action": "terminate", "time": "2030-09-18T08:22:00Z"})}
    poll = aws._Poll(Source("test", lambda _: None), server.host, lambda *notice: notices.put(notice), 0.01)
    poll._token = "an old one"
    poll.run()
    assert notices.get(timeout=DEADLINE_S)[2]
    assert server.asked == [f"GET {ACTION}", "PUT /latest/api/token", f"GET {ACTION}"]


@pytest.mark.parametrize("body", ["", "[]", '{"action": "terminate"}', '{"action": "terminate", "time": "soon"}'])
def test_an_answer_that_is_none_is_no_notice(serve: Any, body: str) -> None:
    server: Server = serve(amazon)
    server.values = {ACTION: body}
    poll = aws._Poll(Source("test", lambda _: None), server.host, lambda *_: pytest.fail("a notice"), 0.01)
    with pytest.raises(ValueError):
        poll.run()


def test_a_source_that_fails_is_asked_again() -> None:
    calls: list[int] = []
    done = threading.Event()

    def watch(_: Source) -> None:
        calls.append(1)
        if len(calls) < 3:
            raise ConnectionRefusedError
        done.set()

    source = Source("test", watch, retry_first_s=0.001)
    assert done.wait(DEADLINE_S)
    source.close()
    assert len(calls) == 3


def test_closing_ends_a_wait_for_a_change(at_google: Server, watching: Any) -> None:
    sources = gce.watch_gce({gce.HOST: at_google.host}, lambda *_: None)
    with at_google.changed:  # both are asked, and wait
        pass
    for source in sources:
        source.close()
    for source in sources:
        source._thread.join(DEADLINE_S)
        assert not source._thread.is_alive()


def test_machines_are_known_without_a_word_on_the_network(tmp_path: Path) -> None:
    told = tmp_path / "dmi"
    told.write_text("Google Compute Engine\n")
    assert gce.is_here({}, told)
    assert not aws.is_here({}, told)
    told.write_text("Amazon EC2\n")
    assert aws.is_here({}, told)
    assert not gce.is_here({}, told)
    assert not gce.is_here({}, tmp_path / "absent")
    assert gce.is_here({gce.HOST: "x"}, tmp_path / "absent")
    assert aws.is_here({aws.ENDPOINT: "http://x"}, tmp_path / "absent")


def test_the_time_limit_of_slurm_is_a_notice_before_it(watching: Any, notices: SimpleQueue[Notice]) -> None:
    end = int(time.time()) + 100
    watching(slurm.watch_slurm({slurm.END_TIME: str(end)}, lambda *notice: notices.put(notice), before_s=100.0))
    source, deadline, final = notices.get(timeout=DEADLINE_S)
    assert "Slurm" in source
    assert (deadline, final) == (end, True)


@pytest.mark.parametrize("told", ["", "0", "never", "-5"])
def test_without_a_time_limit_there_is_none(told: str) -> None:
    assert slurm.watch_slurm({slurm.END_TIME: told}, lambda *_: None, 60.0) == []
    assert slurm.watch_slurm({}, lambda *_: None, 60.0) == []
