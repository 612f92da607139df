"""What the tests that need TensorFlow share."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")


@pytest.fixture(scope="session")
def comparing() -> ModuleType:
    """The module `comparing.py` beside this file, which the scripts that tests run import too."""
    path = Path(__file__).with_name("comparing.py")
    spec = importlib.util.spec_from_file_location("comparing", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
