"""The observatory: watches one session of the chief for all who asked, from its opening to its closing.

What fails in it is told in the log, and never disturbs the job: a port that cannot be had, a scalar that cannot be
written.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from distckpt.errors import StorageError
from distckpt.observe import happenings as h
from distckpt.observe.chronicle import Chronicle
from distckpt.observe.dashboard import Dashboard
from distckpt.observe.exposition import serve_metrics
from distckpt.observe.metrics import Metrics
from distckpt.observe.picture import Picture, encode
from distckpt.observe.records import record
from distckpt.observe.retained import kept_checkpoints, leases_in
from distckpt.observe.scalars import scalars_of
from distckpt.options import Options, parse_address
from distckpt.protocol.effects import CoordinatorEffect
from distckpt.protocol.events import CoordinatorEvent
from distckpt.protocol.retention import Policy
from distckpt.runtime.lane import Lane
from distckpt.runtime.observer import EndedStep, Opening
from distckpt.storage.posix import PosixStorage

log = logging.getLogger("distckpt.observe")

Scalars = Callable[[int, Mapping[str, float]], None]
"""Writes scalars of a step, for TensorBoard."""
CLOSE_S = 5.0
FOLDER = ".distckpt/dashboard"


@dataclass(slots=True)
class Observatory:
    """A `runtime.observer.Observer`. `scalars` is called on a thread of its own, or never where it is None."""

    options: Options
    policy: Policy
    scalars: Scalars | None = None
    _chronicle: Chronicle | None = None
    _hearers: list[Callable[[h.Happening], None]] = field(default_factory=list)
    _storage: PosixStorage = field(init=False)
    _begun_at: float = 0.0
    _closing: ExitStack = field(default_factory=ExitStack)

    def opened(self, opening: Opening) -> None:
        self._begun_at = time.time()
        self._storage = PosixStorage(opening.directory)
        self._chronicle = Chronicle(opening, self._tell)
        self._hearers = [record]
        if self.options.metrics is not None:
            self._serve_metrics(Metrics(opening, self._chronicle), self.options.metrics)
        if self.options.dashboard is not False:
            self._serve_dashboard(opening)
        if self.scalars is not None:
            self._write_scalars(self.scalars)

    def coordinator_did(self, event: CoordinatorEvent, effects: Sequence[CoordinatorEffect], now: float) -> None:
        if self._chronicle is not None:
            self._chronicle.coordinator_did(event, effects, now)

    def steps_ended(self, ended: Sequence[EndedStep]) -> None:
        if self._chronicle is not None:
            self._chronicle.steps_ended(ended)

    def closed(self) -> None:
        self._closing.close()

    def picture(self) -> Picture:
        """How the job stands now. From any thread; reads the leases from the storage."""
        assert self._chronicle is not None, "it is asked once the session is open"
        picture = self._chronicle.picture(time.monotonic(), time.time())
        kept = kept_checkpoints(self._chronicle.checkpoints, self.policy, leases_in(self._storage))
        return replace(picture, begun_at=self._begun_at, checkpoints=kept)

    def picture_json(self) -> bytes:
        return encode(self.picture())

    def _serve_metrics(self, metrics: Metrics, address: str) -> None:
        self._hearers.append(metrics.hear)
        try:
            self._closing.callback(serve_metrics(metrics.registry, address))
        except OSError as error:
            log.error("no metrics: cannot listen on %s: %s", address, error)  # noqa: TRY400 - it says it all

    def _serve_dashboard(self, opening: Opening) -> None:
        """Where it is, and its token, stand in a file that only the owner of the directory can read."""
        wanted = self.options.dashboard
        host, port = parse_address(wanted, "dashboard") if isinstance(wanted, str) else ("127.0.0.1", 0)
        try:
            dashboard = Dashboard(self.picture_json, host, port)
        except OSError as error:
            log.error("no dashboard: cannot listen on %s:%d: %s", host, port, error)  # noqa: TRY400 - it says it all
            return
        self._closing.callback(dashboard.close)
        key = f"{FOLDER}/{opening.generation}.json"
        try:
            for stale in self._storage.keys(FOLDER):  # of starts that were killed
                self._storage.delete(stale)
            told = {"url": dashboard.url, "token": dashboard.token}
            self._storage.put(key, json.dumps(told).encode(), private=True)
            self._closing.callback(self._storage.delete, key)
        except StorageError as error:
            log.error("nobody can open the dashboard: %s", error)  # noqa: TRY400 - it says it all
        log.warning("the dashboard is at %s, its token in %s/%s", dashboard.url, opening.directory, key)

    def _write_scalars(self, scalars: Scalars) -> None:
        lane = Lane("tensorboard")
        self._closing.callback(lane.close, CLOSE_S)

        def hear(happening: h.Happening) -> None:
            step, values = scalars_of(happening)
            if values:
                lane.submit(lambda: scalars(step, values))

        self._hearers.append(hear)

    def _tell(self, happening: h.Happening) -> None:
        for hear in self._hearers:
            hear(happening)
