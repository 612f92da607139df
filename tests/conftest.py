"""What tests of all areas share."""

from __future__ import annotations

import copy
import importlib.util
import math
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import strategies as st

STREAM_S = 60.0
Forged = Callable[[Any], st.SearchStrategy[Any]]

_ODD = (None, True, -1, 2**63, 10**30, 10**400, 0.5, -0.0, 1e308, math.nan, math.inf, [], {}, [[]], {"": 0})
_ODD_TEXTS = (
    "",
    ".",
    "..",
    "../x",
    "/etc/passwd",
    "a/../../x",
    "a\0b",
    "\ud800",
    "x" * 5_000,
    "\x1b[2J",
    "nan",
    "1/../x",
)


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


@pytest.fixture
def open_stream() -> Iterator[Callable[..., Any]]:
    """`open_stream(stub, opening, ...)`: a call of Connect that says this, and no more, until the test is over."""
    over = threading.Event()

    def opened(stub: Any, *said: Any) -> Any:
        def requests() -> Iterator[Any]:
            yield from said
            over.wait()

        return stub.Connect(requests(), timeout=STREAM_S)

    yield opened
    over.set()


@pytest.fixture(scope="session")
def say() -> Callable[[Any, Any], None]:
    """`say(stub, message)`: on a stream for this message alone. Raises RpcError where it is refused."""

    def said(stub: Any, message: Any) -> None:
        opening = type(message)(sender=message.sender)
        assert list(stub.Connect(iter((opening, message)), timeout=STREAM_S)) == []

    return said


@pytest.fixture(scope="session")
def forged() -> Forged:
    """`forged(value)`: a strategy of JSON values that are `value` with some of its parts replaced or left out."""

    @st.composite
    def make(draw: st.DrawFn, value: Any) -> Any:
        forgery = copy.deepcopy(value)
        for _ in range(draw(st.integers(1, 3))):
            places = list(_places(forgery))
            if not places:
                return forgery
            holder, key = draw(st.sampled_from(places))
            if draw(st.integers(0, 5)):
                holder[key] = copy.deepcopy(draw(st.sampled_from(_ODD) | st.sampled_from(_ODD_TEXTS)))
            else:
                del holder[key]
        return forgery

    return make


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Each part of a JSON value: what holds it, and under which key or number."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    return [(value, key) for key in keys] + [place for key in keys for place in _places(value[key])]
