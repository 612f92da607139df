"""What happens, as Prometheus metrics of one generation, by Prometheus' conventions (base units, `_total`).

https://prometheus.io/docs/practices/naming/ . What each one means for an operator: docs/operations.md.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from distckpt import __version__
from distckpt.observe import happenings as h
from distckpt.observe.chronicle import Chronicle
from distckpt.runtime.observer import Opening

SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)


class Metrics:
    """`registry` is what a scrape collects. `hear` takes what happens; `chronicle` is asked at each scrape."""

    def __init__(self, opening: Opening, chronicle: Chronicle) -> None:
        self.registry = registry = CollectorRegistry()
        about = {"training_job": opening.job, "version": __version__}
        Gauge("distckpt_info", "The job, and distckpt's version.", list(about), registry=registry).labels(**about).set(
            1
        )
        generation = Gauge("distckpt_generation", "Starts of the job so far.", registry=registry)
        generation.set(opening.generation)
        self._saves = Counter("distckpt_saves", "Saves that ended, by outcome.", ["outcome"], registry=registry)
        for outcome in ("committed", "aborted", "unknown"):
            self._saves.labels(outcome)
        self._failures = Counter("distckpt_save_failures", "Saves that failed, by cause.", ["cause"], registry=registry)
        self._bytes = Counter("distckpt_committed_bytes", "Bytes of the committed checkpoints.", registry=registry)
        self._save_s = _histogram("distckpt_save_seconds", "From the first worker's save to the commit.", registry)
        self._phase_s = Histogram(
            "distckpt_save_phase_seconds",
            "The phases of a save: gather (till all workers are at it), write, commit.",
            ["phase"],
            registry=registry,
            buckets=SECONDS,
        )
        for phase in ("gather", "write", "commit"):
            self._phase_s.labels(phase)
        self._stall_s = _histogram("distckpt_stall_seconds", "How long a save held a training thread.", registry)
        self._step_s = _histogram("distckpt_step_seconds", "Training steps of the chief.", registry)
        self._restore_s = _histogram("distckpt_restore_seconds", "Till all workers know what to restore.", registry)
        self._restore_failures = Counter("distckpt_restore_failures", "By cause.", ["cause"], registry=registry)
        self._set_aside = Counter("distckpt_set_aside", "Checkpoints that were found corrupt.", registry=registry)
        self._differ = Counter(
            "distckpt_replicas_differ",
            "Saves whose mirrored variables were not the same everywhere.",
            registry=registry,
        )
        self._lost = Counter("distckpt_workers_lost", "How often a worker was lost.", registry=registry)
        self._given_up = Counter(
            "distckpt_shares_given_up", "Shares that others wrote in a worker's place.", registry=registry
        )
        self._wishes_failed = Counter(
            "distckpt_wishes_failed",
            "Saves nobody foresaw that came to nothing.",
            ["cause"],
            registry=registry,
        )
        self._last_at = Gauge("distckpt_last_commit_timestamp_seconds", "Of the newest checkpoint.", registry=registry)
        self._last_step = Gauge("distckpt_last_commit_step", "Of the newest checkpoint.", registry=registry)
        self._last_bytes = Gauge("distckpt_last_commit_bytes", "Of the newest checkpoint.", registry=registry)
        registry.register(_Now(opening.world_size, chronicle))
        if opening.checkpoints:
            newest = opening.checkpoints[-1]
            self._commit(newest.timestamp, newest.step, newest.size_bytes)

    def hear(self, happening: h.Happening) -> None:  # noqa: C901 - one case for each
        """Takes in what happened just now."""
        match happening:
            case h.SaveAgreed(gather_s=seconds):
                self._phase_s.labels("gather").observe(seconds)
            case h.SaveCommitting(write_s=seconds):
                self._phase_s.labels("write").observe(seconds)
            case h.SaveEnded():
                self._save_ended(happening)
            case h.TrainingHeld(seconds=seconds):
                self._stall_s.observe(seconds)
            case h.StepEnded(seconds=seconds):
                self._step_s.observe(seconds)
            case h.RestoreEnded(cause=cause) if cause:
                self._restore_failures.labels(cause).inc()
            case h.RestoreEnded(seconds=seconds):
                self._restore_s.observe(seconds)
            case h.SetAside():
                self._set_aside.inc()
            case h.ReplicasDiffer():
                self._differ.inc()
            case h.WishFailed(cause=cause):
                self._wishes_failed.labels(cause).inc()
            case h.ShareGivenUp():
                self._given_up.inc()
            case h.WorkerLost():
                self._lost.inc()

    def _save_ended(self, ended: h.SaveEnded) -> None:
        self._saves.labels(ended.outcome).inc()
        if ended.commit_s is not None:
            self._phase_s.labels("commit").observe(ended.commit_s)
        if ended.outcome == "committed":
            self._save_s.observe(ended.seconds)
            self._bytes.inc(ended.bytes)
            self._commit(ended.committed_at or 0.0, ended.step, ended.bytes)
        else:
            self._failures.labels(ended.cause).inc()

    def _commit(self, timestamp: float, step: int, size_bytes: int) -> None:
        self._last_at.set(timestamp)
        self._last_step.set(step)
        self._last_bytes.set(size_bytes)


class _Now(Collector):
    """What is looked up at each scrape; from memory."""

    def __init__(self, world_size: int, chronicle: Chronicle) -> None:
        self._world_size = world_size
        self._chronicle = chronicle

    def collect(self) -> Iterator[Metric]:
        picture = self._chronicle.picture(time.monotonic(), time.time())
        alive = sum(worker.presence == "present" for worker in picture.workers)
        in_flight = float(picture.in_flight is not None)
        yield GaugeMetricFamily("distckpt_world_size", "Workers that the job has.", self._world_size)
        yield GaugeMetricFamily("distckpt_workers_alive", "Workers that are there.", alive)
        yield GaugeMetricFamily("distckpt_checkpoints", "Checkpoints that exist.", len(self._chronicle.checkpoints))
        yield GaugeMetricFamily("distckpt_save_in_flight", "1 while a save is in flight, else 0.", in_flight)
        steps = GaugeMetricFamily("distckpt_worker_step", "The last training step of each.", labels=["worker"])
        for worker in picture.workers:
            steps.add_metric([str(worker.worker)], worker.step)
        yield steps


def _histogram(name: str, told: str, registry: CollectorRegistry) -> Histogram:
    return Histogram(name, told, registry=registry, buckets=SECONDS)
