"""`distckpt status` and `distckpt watch` on a real job: live, after its end, over its restart."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from distckpt.observe.observatory import Observatory
from distckpt.options import Options
from distckpt.protocol.retention import KeepLatest

Job = Any
DEADLINE_S = 60.0
MAIN = (sys.executable, "-c", "import sys; from distckpt.cli.main import main; sys.exit(main())")


def start(job: Job, count: int = 2) -> list[Any]:
    policy = KeepLatest(2)
    workers: list[Any] = job.start(count, job="digits", policy=policy, observer=Observatory(Options(), policy))
    return workers


def save(workers: list[Any], step: int, model: Any) -> None:
    for ticket in [worker.save(step, model) for worker in workers]:
        ticket.outcome.result()


def status(job: Job, *more: str) -> str:
    command = (*MAIN, "status", str(job.directory), *more)
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=True).stdout


def test_status_is_live_while_the_job_runs_and_the_journals_after_it(job: Job, model: Any) -> None:
    workers = start(job)
    save(workers, 10, model)
    live = json.loads(status(job, "--json"))
    assert (live["source"], live["job"], live["generation"]) == ("live", "digits", 1)
    assert [worker["presence"] for worker in live["workers"]] == ["present", "present"]
    assert [save["phase"] for save in live["saves"]] == ["committed"]
    assert live["checkpoints"][0]["kept"] == ["the newest", "one of the last 2"]
    job.stop()
    told = status(job)
    assert "job digits, generation 1: not running, or out of reach" in told
    assert "has ended" in told
    assert "last commit: ckpt-10" in told


def test_a_chief_that_does_not_answer_is_told_of_and_its_journal_read(job: Job, model: Any) -> None:
    workers = start(job)
    save(workers, 10, model)
    workers[0].session.chief._server.stop(0.0)
    told = status(job)
    assert "does not answer" in told
    assert "ckpt-10" in told


class Follower:
    """A `distckpt watch` (or another command that goes on) and all that it has written."""

    def __init__(self, command: str, directory: str, *, terminal: bool) -> None:
        reader, writer = pty.openpty() if terminal else os.pipe()
        environ = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
        self.process = subprocess.Popen([*MAIN, command, directory], stdout=writer, stderr=writer, env=environ)
        os.close(writer)
        self._changed = threading.Condition()
        self.text = ""
        self._reading = threading.Thread(target=self._read, args=(reader,))
        self._reading.start()

    def _read(self, reader: int) -> None:
        with open(reader, "rb", buffering=0) as file:
            while True:
                try:
                    data = file.read(65536)
                except OSError:  # a terminal whose last process has gone
                    return
                if not data:
                    return
                with self._changed:
                    self.text += data.decode(errors="replace")
                    self._changed.notify_all()

    def wait(self, text: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: text in self.text, DEADLINE_S), f"{text!r} is not in {self.text!r}"

    def end(self, signum: signal.Signals) -> int:
        self.process.send_signal(signum)
        code = self.process.wait(DEADLINE_S)
        self._reading.join(DEADLINE_S)
        return code

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reading.join(DEADLINE_S)


@pytest.fixture
def watch() -> Iterator[Callable[..., Follower]]:
    started: list[Follower] = []

    def begin(job: Job, *, command: str = "watch", terminal: bool = False) -> Follower:
        started.append(Follower(command, str(job.directory), terminal=terminal))
        return started[-1]

    yield begin
    for each in started:
        each.kill()


def test_watch_follows_a_job_over_its_restart_and_ends_with_ctrl_c(
    job: Job, new_job: Any, model: Any, watch: Callable[..., Follower]
) -> None:
    workers = start(job)
    save(workers, 10, model)
    following = watch(job)
    following.wait("generation 1: 2 of 2 workers are there")
    save(workers, 20, model)
    following.wait("ckpt-20 is committed")
    job.stop()
    following.wait("has ended")
    save(start(new_job(job.directory)), 30, model)
    following.wait("generation 2: 2 of 2 workers are there")
    assert following.end(signal.SIGINT) == 0
    assert "Traceback" not in following.text
    assert following.text.count("ckpt-20 is committed") == 1


def test_watch_draws_on_a_terminal_and_leaves_it_as_it_was(
    job: Job, model: Any, watch: Callable[..., Follower]
) -> None:
    workers = start(job)
    save(workers, 10, model)
    following = watch(job, terminal=True)
    following.wait("ckpt-10")
    assert following.end(signal.SIGINT) == 0
    assert "\x1b[?25l" in following.text  # the cursor was hidden,
    assert following.text.rstrip().endswith("\x1b[?25h")  # and is there again
    assert "Traceback" not in following.text


def picture(url: str, token: str) -> dict[str, Any]:
    """What the page at `url` would draw."""
    request = urllib.request.Request(f"{url}picture.json", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
        shown: dict[str, Any] = json.load(answer)
    return shown


def test_the_dashboard_command_shows_a_job_while_it_runs_and_after_it(
    job: Job, model: Any, watch: Callable[..., Follower]
) -> None:
    workers = start(job)
    save(workers, 10, model)
    serving = watch(job, command="dashboard")
    serving.wait("Ctrl-C ends it")
    url, _, token = serving.text.splitlines()[0].partition("#")
    assert url.startswith("http://127.0.0.1:")
    live = picture(url, token)
    assert (live["source"], live["saves"][0]["phase"]) == ("live", "committed")
    job.stop()
    assert picture(url, token)["source"] == "journal"
    assert serving.end(signal.SIGTERM) == 0


def test_the_chief_serves_its_dashboard_to_those_who_own_the_directory(job: Job, model: Any) -> None:
    killed = job.directory / ".distckpt" / "dashboard" / "0.json"  # of a start that could not remove it
    killed.parent.mkdir(parents=True)
    killed.write_text("{}")
    observatory = Observatory(Options(dashboard=True), KeepLatest(2))
    workers = job.start(2, policy=KeepLatest(2), observer=observatory)
    save(workers, 10, model)
    (told,) = (job.directory / ".distckpt" / "dashboard").iterdir()
    assert told.stat().st_mode & 0o777 == 0o600
    key = json.loads(told.read_text())
    shown = picture(key["url"], key["token"])
    assert [each["name"] for each in shown["checkpoints"]] == ["ckpt-10"]
    with pytest.raises(urllib.error.HTTPError, match="401"):
        picture(key["url"], "wrong")
    job.stop()
    assert not told.exists()
    with pytest.raises(urllib.error.URLError):
        picture(key["url"], key["token"])
