"""How many threads read."""

from __future__ import annotations

import os

import pytest

from distckpt.bundle.parallel import READERS_MAX, readers


@pytest.mark.parametrize(("cores", "threads"), [(1, 2), (2, 2), (5, 5), (96, READERS_MAX)])
def test_every_core_reads_but_one_alone_is_not_left_waiting_and_a_crowd_not_let_loose(
    cores: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert readers() == threads


def test_a_system_that_knows_no_affinity_is_asked_for_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert readers() == 3
