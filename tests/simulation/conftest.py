"""Makes the package `simulated` importable: pytest's importlib mode puts no test folder on the path."""

import logging
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """The job's warnings of thousands of schedules would be kept for the report."""
    caplog.set_level(logging.CRITICAL, logger="distckpt")
