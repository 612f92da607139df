"""Prometheus' exposition: `http://HOST:PORT/metrics`, read-only and without a password, as Prometheus expects it."""

from __future__ import annotations

import logging
from collections.abc import Callable

from prometheus_client import CollectorRegistry, start_http_server

from distckpt.options import parse_address

log = logging.getLogger("distckpt.observe")

CLOSE_S = 5.0


def serve_metrics(registry: CollectorRegistry, address: str) -> Callable[[], None]:
    """Serves it at `address` ("host:port"); returns what ends that. Raises OSError where it cannot listen there."""
    host, port = parse_address(address, "metrics")
    server, thread = start_http_server(port, host, registry)
    log.info("metrics for Prometheus: http://%s:%d/metrics", host, server.server_port)

    def close() -> None:
        server.shutdown()
        server.server_close()
        thread.join(CLOSE_S)

    return close
