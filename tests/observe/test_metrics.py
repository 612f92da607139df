"""Prometheus' metrics: what a scrape shows is what happened, and deploy/monitoring names nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from distckpt.model import Checkpoint, FileRecord
from distckpt.observe import happenings as h
from distckpt.observe.metrics import Metrics

Watch = Callable[..., Any]
ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deploy" / "monitoring"
PROMETHEUS_OWN = {"up"}


@pytest.fixture
def job(watch: Watch) -> Any:
    return watch(2, [Checkpoint("ckpt-7", 7, 1234.5, 1, (FileRecord("data", 5),))])


@pytest.fixture
def metrics(job: Any) -> Metrics:
    made = Metrics(job.opening, job.chronicle)
    for happening in job.take():
        made.hear(happening)
    return made


def scraped(metrics: Metrics) -> dict[str, float]:
    """What a scrape shows, as Prometheus' own parser reads it: `name{label=value,...}` to the value."""
    shown = {}
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            shown[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return shown


def test_before_the_first_save_of_this_start_the_newest_checkpoint_counts(metrics: Metrics) -> None:
    shown = scraped(metrics)
    assert shown["distckpt_last_commit_timestamp_seconds"] == 1234.5
    assert shown["distckpt_last_commit_step"] == 7
    assert shown["distckpt_last_commit_bytes"] == 5
    assert shown["distckpt_saves_total{outcome=aborted}"] == 0  # there from the start: an increase can be seen
    assert shown["distckpt_workers_alive"] == shown["distckpt_world_size"] == 2


def test_a_committed_save_shows_in_bytes_phases_and_age(job: Any, metrics: Metrics) -> None:
    job.stage.save(0)
    job.stage.save(1)
    assert scraped(metrics)["distckpt_save_in_flight"] == 1
    job.stage.wait(2.0)
    job.stage.write_all()
    job.stage.commit()
    for happening in job.take():
        metrics.hear(happening)
    metrics.hear(h.TrainingHeld(1, 100, 0.02))
    shown = scraped(metrics)
    assert shown["distckpt_saves_total{outcome=committed}"] == 1
    assert shown["distckpt_save_phase_seconds_sum{phase=write}"] == 2.0
    assert shown["distckpt_save_phase_seconds_count{phase=commit}"] == 1
    assert shown["distckpt_save_seconds_bucket{le=3.0}"] == 1
    assert shown["distckpt_save_seconds_bucket{le=1.0}"] == 0
    assert shown["distckpt_stall_seconds_sum"] == 0.02
    assert shown["distckpt_last_commit_timestamp_seconds"] == 2.0  # the stage's clock
    assert shown["distckpt_last_commit_step"] == 100
    assert shown["distckpt_save_in_flight"] == 0


def test_a_failed_save_shows_with_its_cause_and_a_lost_worker_is_not_alive(job: Any, metrics: Metrics) -> None:
    job.stage.save(0, captured=False)  # capturing it would need worker 1
    job.stage.kill(1)
    job.stage.wait(5.0)
    for happening in job.take():
        metrics.hear(happening)
    shown = scraped(metrics)
    assert shown["distckpt_saves_total{outcome=aborted}"] == 1
    assert shown["distckpt_save_failures_total{cause=WorkerLost}"] == 1
    assert shown["distckpt_workers_lost_total"] == 1
    assert shown["distckpt_workers_alive"] == 1
    assert shown["distckpt_last_commit_step"] == 7


def everything() -> list[h.Happening]:
    """One of each that a metric is made of."""
    return [
        h.SaveEnded(1, 1, "ckpt-1", "aborted", "WorkerLost", "", 1, 0, 1.0, None, None),
        h.RestoreEnded(1, "latest", "", "CorruptCheckpoint", "", 1.0),
        h.RestoreEnded(1, "latest", "ckpt-1", "", "", 1.0),
        h.SetAside("ckpt-1", "bytes differ"),
        h.ShareGivenUp(1, 1, 2, (0, 1)),
        h.WishFailed("WorkerLost", "worker 1 is lost"),
        h.StepEnded(1, 0.1),
    ]


@pytest.fixture
def exported(metrics: Metrics) -> set[str]:
    """Every name that a scrape can show."""
    for happening in everything():
        metrics.hear(happening)
    return {name.partition("{")[0] for name in scraped(metrics)}


def names_in(text: str) -> set[str]:
    """The metrics that an expression names, by Prometheus' grammar. Raises where it is no expression."""
    names: set[str] = set()

    def look(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            names.add(node.name)

    promql_parser.walk(promql_parser.parse(text), look)
    return names


def test_the_alert_rules_are_whole_and_ask_for_what_is_exported(exported: set[str]) -> None:
    (group,) = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    assert len({rule["alert"] for rule in group["rules"]}) == len(group["rules"]) > 5
    for rule in group["rules"]:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]
        assert names_in(rule["expr"]) <= exported | PROMETHEUS_OWN, rule["alert"]
        if "for" in rule:
            promql_parser.parse_duration(rule["for"])


def test_the_grafana_dashboard_asks_for_what_is_exported(exported: set[str]) -> None:
    dashboard = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(asked) > 10
    for text in asked:
        names = names_in(text.replace("$__rate_interval", "5m"))
        assert names, text
        assert names <= exported, text


def test_every_metric_is_explained_to_operators(exported: set[str]) -> None:
    told = (ROOT / "docs" / "operations.md").read_text()
    bases = {name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum") for name in exported}
    for base in bases:
        assert base.endswith("_created") or f"`{base}`" in told, base
