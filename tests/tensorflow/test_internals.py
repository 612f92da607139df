"""TensorFlow's private names stand in one module of distckpt, and are all there in the TensorFlow that is installed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import tensorflow as tf

import distckpt
from distckpt.errors import ConfigurationError
from distckpt.tensors import internals
from distckpt.tensors.cluster import ALONE, cluster_place

PACKAGE = Path(distckpt.__file__).parent
OURS = PACKAGE / "tensors" / "internals.py"


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def attributes(tree: ast.AST) -> Iterator[str]:
    """Every dotted name such as tf.python.x, and underscore attribute of anything but self and cls."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield ast.unparse(node)


@pytest.mark.parametrize(("owner", "name"), internals.PRIVATE_NAMES)
def test_tensorflow_still_has(owner: object, name: str) -> None:
    assert hasattr(owner, name), f"{getattr(owner, '__name__', owner)}.{name} vanished from TensorFlow {tf.__version__}"


def test_all_that_is_imported_of_tensorflows_insides_is_listed() -> None:
    tree = ast.parse(OURS.read_text())
    modules = {name.rsplit(".", 1)[1] for name in imported(tree) if name.startswith("tensorflow.python")}
    modules -= {"checkpoint", "restore"}  # imported under other names, as functions here have arguments of these
    used = {
        (node.value.id, node.attr)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules
    }
    listed = {(getattr(owner, "__name__", "").rsplit(".", 1)[-1], name) for owner, name in internals.PRIVATE_NAMES}
    classes = {"Trackable", "Context"}  # of which attributes are listed
    assert {f"{module}.{name}" for module, name in used if name not in classes} <= {f"{m}.{n}" for m, n in listed}


def test_no_other_module_reaches_into_tensorflow() -> None:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if path != OURS:
            tree = ast.parse(path.read_text())
            names = [name for name in imported(tree) if name.startswith(("tensorflow.python", "tensorflow.core"))]
            names += [name for name in attributes(tree) if name.startswith(("tf.python", "tf.__internal__", "tf._"))]
            found += [f"{path.relative_to(PACKAGE)}: {name}" for name in names]
    assert found == []


def test_one_worker_needs_no_cluster() -> None:
    for strategy in (
        tf.distribute.get_strategy(),
        tf.distribute.OneDeviceStrategy("CPU:0"),
        tf.distribute.MirroredStrategy(),
        tf.distribute.experimental.CentralStorageStrategy(),
    ):
        assert cluster_place(strategy) == ALONE


def test_a_strategy_that_was_never_tried_is_refused_by_name() -> None:
    class TPUStrategy(tf.distribute.Strategy):
        """Stands for TensorFlow's, which needs TPUs."""

        def __init__(self) -> None:
            super().__init__(tf.distribute.get_strategy().extended)

    with pytest.raises(ConfigurationError, match="cannot save under TPUStrategy: use MultiWorkerMirroredStrategy"):
        cluster_place(TPUStrategy())
