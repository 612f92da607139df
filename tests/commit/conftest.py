"""Makes the package `crashing` importable (pytest's importlib mode puts no test folder on the path), and its chiefs."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from crashing.chief import Chief, start, values


@pytest.fixture
def new_chief() -> Callable[..., Chief]:
    return start


@pytest.fixture
def values_in() -> Callable[..., dict[int, float]]:
    return values


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A directory of a memory file system, where there is one: for what makes thousands of small files."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as directory:
        yield Path(directory)
