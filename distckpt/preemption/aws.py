"""Amazon EC2 tells a spot machine of its end through the instance metadata service, version 2.

A token is fetched with PUT and shown with each GET. `spot/instance-action` is absent (404) until two minutes before the
machine is stopped: then {"action": "terminate", "time": "2017-09-18T08:22:00Z"}. `events/recommendations/rebalance`
says earlier that it may come: {"noticeTime": ...}. To be asked every 5 s. Described in docs.aws.amazon.com, EC2 User
Guide, "Spot Instance interruption notices" and "EC2 instance rebalance recommendations".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from distckpt.preemption.notice import ENDS, WARNS, Notify
from distckpt.preemption.source import Source, runs_on

ENDPOINT = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
"""The environment variable that names another server, as Amazon's own libraries have it."""
_HOST = "169.254.169.254"
_VENDOR = Path("/sys/class/dmi/id/sys_vendor")
_POLL_S = 5.0
_ANSWER_S = 5.0
_TOKEN_S = 21_600
_OK, _UNAUTHORIZED, _NOT_FOUND = 200, 401, 404


def is_here(environ: Mapping[str, str], vendor: Path = _VENDOR) -> bool:
    """Whether this is a machine of Amazon's, or one is named."""
    return runs_on("Amazon EC2", vendor, environ.get(ENDPOINT))


def watch_aws(environ: Mapping[str, str], notify: Notify, poll_s: float = _POLL_S) -> list[Source]:
    endpoint = environ.get(ENDPOINT)
    host = urlsplit(endpoint).netloc if endpoint else _HOST
    return [Source("aws", lambda source: _Poll(source, host, notify, poll_s).run())]


class _Poll:
    def __init__(self, source: Source, host: str, notify: Notify, poll_s: float) -> None:
        self._source = source
        self._host = host
        self._notify = notify
        self._poll_s = poll_s
        self._token = ""
        self._warned = False

    def run(self) -> None:
        while True:
            action = self._get("spot/instance-action")
            if action is not None:
                at = datetime.fromisoformat(action["time"])
                deadline = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
                self._notify(f"spot interruption by Amazon EC2 ({action['action']})", deadline, ENDS)
                return
            if not self._warned and self._get("events/recommendations/rebalance") is not None:
                self._warned = True
                self._notify("rebalance recommendation by Amazon EC2", float("inf"), WARNS)
            self._source.pause(self._poll_s)

    def _get(self, key: str) -> dict[str, str] | None:
        """None where there is nothing. Raises ValueError for an answer that is none."""
        path = f"/latest/meta-data/{key}"
        for _ in range(2):
            if not self._token:
                self._token = self._new_token()
            status, body, _ = self._source.request(
                "GET", self._host, path, {"X-aws-ec2-metadata-token": self._token}, _ANSWER_S
            )
            if status == _OK:
                return self._parsed(key, body)
            if status == _NOT_FOUND:
                return None
            self._token = ""
            if status != _UNAUTHORIZED:
                break
        raise ValueError(f"{self._host} answered {key} with status {status}")

    def _parsed(self, key: str, body: str) -> dict[str, str]:
        wanted = ("action", "time") if key.startswith("spot") else ("noticeTime",)
        found = json.loads(body)
        if not isinstance(found, dict) or not all(isinstance(found.get(name), str) for name in wanted):
            raise ValueError(f"{self._host} answered {key} with {body[:200]!r}")
        return found

    def _new_token(self) -> str:
        headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_S)}
        status, body, _ = self._source.request("PUT", self._host, "/latest/api/token", headers, _ANSWER_S)
        if status != _OK:
            raise ValueError(f"{self._host} gave no token: status {status}")
        return body.strip()
