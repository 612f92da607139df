"""Google Compute Engine tells a machine of its end through the metadata server.

`instance/preempted` becomes TRUE some 30 s before a spot machine is stopped; `instance/maintenance-event` changes from
NONE 60 s before the host is maintained: to MIGRATE_ON_HOST_MAINTENANCE (the machine lives on, elsewhere) or
TERMINATE_ON_HOST_MAINTENANCE. With `wait_for_change` a request is answered when the value is another than that of
`last_etag`. Described in https://cloud.google.com/compute/docs/metadata/getting-live-migration-notice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from distckpt.preemption.notice import ENDS, Notify
from distckpt.preemption.source import Source, runs_on

HOST = "GCE_METADATA_HOST"
"""The environment variable that names another server, as Google's own libraries have it."""
_HOST = "metadata.google.internal"
_PRODUCT = Path("/sys/class/dmi/id/product_name")
_HEADERS = {"Metadata-Flavor": "Google"}
_POLL_S = 60
_ANSWER_S = _POLL_S + 30.0
_OK = 200
PREEMPTED_S = 30.0
MAINTENANCE_S = 60.0


def is_here(environ: Mapping[str, str], product: Path = _PRODUCT) -> bool:
    """Whether this is a machine of Google's, or one is named."""
    return runs_on("Google", product, environ.get(HOST))


def watch_gce(environ: Mapping[str, str], notify: Notify) -> list[Source]:
    host = environ.get(HOST) or _HOST

    def preempted(value: str) -> bool:
        if value == "TRUE":
            notify("preemption by Google Compute Engine", time.time() + PREEMPTED_S, ENDS)
        return value == "TRUE"

    def maintenance(value: str) -> bool:
        final = value == "TERMINATE_ON_HOST_MAINTENANCE"
        if value != "NONE":
            deadline = time.time() + MAINTENANCE_S if final else float("inf")
            notify(f"maintenance by Google Compute Engine ({value})", deadline, final)
        return final

    return [
        Source("gce-preempted", lambda source: _follow(source, host, "preempted", preempted)),
        Source("gce-maintenance", lambda source: _follow(source, host, "maintenance-event", maintenance)),
    ]


def _follow(source: Source, host: str, key: str, on_value: Callable[[str], bool]) -> None:
    """Hands each new value to `on_value`, until that says that it was the last one."""
    etag, before = "0", ""
    while True:
        path = f"/computeMetadata/v1/instance/{key}?wait_for_change=true&last_etag={etag}&timeout_sec={_POLL_S}"
        status, value, headers = source.request("GET", host, path, _HEADERS, _ANSWER_S)
        if status != _OK or headers.get("metadata-flavor") != "Google":
            raise ValueError(f"{host} answered {key} with status {status}, and not as Google's metadata server does")
        etag = headers.get("etag", "0")
        value = value.strip()
        if value != before and on_value(value):
            return
        before = value
        if etag == "0":
            source.pause(1.0)  # a server that does not wait is not asked without a pause
