"""Makes the package `simulated` importable: pytest's importlib mode puts no test folder on the path."""

import logging
import sys
from pathlib import Path

import pytest

from distckpt.protocol import speeds
from distckpt.runtime import unchanged

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _little_is_worth_a_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unchanged, "LEAST_BYTES", 1)


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """The job's warnings of thousands of schedules would be kept for the report."""
    caplog.set_level(logging.CRITICAL, logger="distckpt")


@pytest.fixture(autouse=True)
def _tiny_shares_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulated model is small and soon written; its workers' weights change all the time."""
    monkeypatch.setattr(speeds, "SECONDS_MIN", 0.2)
    monkeypatch.setattr(speeds, "MEAN_BYTES_MIN", 1)
