"""What tests of all areas share."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def faulty() -> ModuleType:
    """The module tests/faulty_storage.py: `faulty.FaultyStorage(storage, before=faulty.at(3, faulty.Crash()))`."""
    path = Path(__file__).with_name("faulty_storage.py")
    spec = importlib.util.spec_from_file_location("faulty_storage", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
