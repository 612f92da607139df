"""Every storage there is, fresh for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from distckpt.storage.interface import Storage
from distckpt.storage.memory import MemoryStorage
from distckpt.storage.posix import PosixStorage


@pytest.fixture(params=["posix", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return PosixStorage.create(tmp_path / "job") if request.param == "posix" else MemoryStorage()
