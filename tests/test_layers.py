"""DESIGN's layers, held apart: every import in the package is read from its source and checked."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "distckpt"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if not path.name.endswith(("_pb2.py", "_pb2_grpc.py")))
LINES_MAX = 500

# Lowest first; each imports only those below it, and itself. `distckpt` is the package's own __init__.
LAYERS = (
    ("model", "report", "text"),
    ("errors",),
    ("protocol",),
    ("policy",),
    ("storage",),
    ("journal",),
    ("bundle",),
    ("tensors",),
    ("commit",),
    ("catalog", "iterator", "rpc"),
    ("options",),
    ("runtime",),
    ("observe", "preemption"),
    ("manager",),
    ("launch",),
    ("keras", "cli"),
    ("distckpt",),
)
RANK = {layer: rank for rank, layers in enumerate(LAYERS) for layer in layers}

MAY_IMPORT_TENSORFLOW = ("tensors/", "manager.py", "keras/", "launch/demo_training.py", "launch/demo_classifier.py")
TENSORFLOWS_INTERNALS = "tensors/internals.py"
# What decides correctness knows no clock, thread, socket, file, process or chance.
BANNED_IN_PROTOCOL = {
    *("asyncio", "concurrent", "datetime", "grpc", "multiprocessing", "os", "pathlib", "queue", "random", "secrets"),
    *("selectors", "shutil", "signal", "socket", "subprocess", "tempfile", "tensorflow", "threading", "time", "uuid"),
}


def relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def imported(path: Path) -> Iterator[str]:
    """The full names of all modules that a file imports, wherever in it; for `from a import b` both `a` and `a.b`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{relative(path)}: imports are absolute, so that they can be read"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return "distckpt" if first == "__init__.py" else first.removesuffix(".py")


def imported_layers(path: Path) -> set[str]:
    parts = [name.split(".") for name in imported(path)]
    return {part[1] for part in parts if part[0] == "distckpt" and len(part) > 1 and part[1] in RANK}


def test_every_layer_has_its_place() -> None:
    assert {layer_of(path) for path in MODULES} <= set(RANK), "say in LAYERS where the new one stands"


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_a_layer_imports_only_what_is_below_it(path: Path) -> None:
    own = layer_of(path)
    above = {layer for layer in imported_layers(path) - {own} if RANK[layer] >= RANK[own]}
    assert not above, f"{own} must not import {', '.join(sorted(above))}"


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_tensorflow_is_imported_only_where_it_must_be(path: Path) -> None:
    names = [name for name in imported(path) if name.split(".")[0] in ("tensorflow", "keras", "tf_keras")]
    assert not names or relative(path).startswith(MAY_IMPORT_TENSORFLOW)
    private = [name for name in names if name.startswith("tensorflow.python")]
    assert not private or relative(path) == TENSORFLOWS_INTERNALS


@pytest.mark.parametrize("path", sorted((PACKAGE / "protocol").glob("*.py")), ids=relative)
def test_the_protocol_knows_no_clock_thread_socket_or_file(path: Path) -> None:
    assert not BANNED_IN_PROTOCOL & {name.split(".")[0] for name in imported(path)}


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_no_file_is_too_long_to_be_read(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES_MAX
