"""The demo's model and data, and what plain TensorFlow makes of a checkpoint of it. Stands alone: no distckpt in here.

As a script, `python -I demo_classifier.py DIR OTHER`, it restores DIR's latest checkpoint with TensorFlow alone, in a
process where importing distckpt fails, and prints one line of JSON: `accuracy` on the held-out digits, `equal_tensors`:
how many tensors are bit for bit those of OTHER's latest checkpoint, and `different_tensors`: the names of the others.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.util import find_spec
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from sklearn.datasets import load_digits

PIXELS = 64
DIGITS = 10
HIDDEN = 1024
HELD_OUT = 360
SEED = 7

Examples = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Images of shape [n, 64] with values from 0 to 1, and the digit that each shows, of shape [n]."""


def digits() -> tuple[Examples, Examples]:
    """scikit-learn's 1,797 handwritten digits, in an order that is always the same: for training, and held out."""
    bunch = load_digits()
    order = np.random.default_rng(SEED).permutation(len(bunch.target))
    images = (bunch.data[order] / 16.0).astype(np.float32)
    labels = bunch.target[order].astype(np.int64)
    return (images[HELD_OUT:], labels[HELD_OUT:]), (images[:HELD_OUT], labels[:HELD_OUT])


class Classifier(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """Two hidden layers. Every start begins with the same weights."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (PIXELS, HIDDEN, HIDDEN, DIGITS)
        self.kernels = [tf.Variable(_initial(*pair), name="kernel") for pair in pairwise(sizes)]
        self.biases = [tf.Variable(tf.zeros(size), name="bias") for size in sizes[1:]]

    def logits(self, images: Any) -> Any:
        """Shape [n, 64] to shape [n, 10]."""
        *hidden, last = zip(self.kernels, self.biases, strict=True)
        for kernel, bias in hidden:
            images = tf.nn.relu(images @ kernel + bias)
        return images @ last[0] + last[1]

    def accuracy(self, examples: Examples) -> float:
        images, labels = examples
        return float(np.mean(tf.argmax(self.logits(images), axis=1).numpy() == labels))


def _initial(inputs: int, outputs: int) -> Any:
    return tf.random.stateless_normal((inputs, outputs), seed=(SEED, outputs), stddev=(2.0 / inputs) ** 0.5)


class _Unimportable(MetaPathFinder):
    """Makes a package impossible to import, wherever it may be installed."""

    def __init__(self, package: str) -> None:
        self._package = package

    def find_spec(self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None) -> None:
        if name.partition(".")[0] == self._package:
            raise ImportError(f"{name} cannot be imported here")


def _forbid(package: str) -> None:
    """Makes sure that from here on `package` cannot be imported."""
    assert package not in sys.modules
    sys.meta_path.insert(0, _Unimportable(package))
    try:
        find_spec(package)
    except ImportError:
        return
    raise AssertionError(f"{package} could be imported")


def _restored_accuracy(path: str) -> float:
    model = Classifier()
    tf.train.Checkpoint(model=model).restore(path).expect_partial().assert_existing_objects_matched()
    return model.accuracy(digits()[1])


def _compare(path: str, other: str) -> tuple[int, list[str]]:
    """How many tensors are the same in both checkpoints, and the names of all others."""
    readers = [tf.train.load_checkpoint(each) for each in (path, other)]
    names = set.union(*(set(reader.get_variable_to_shape_map()) for reader in readers))
    shared = [name for name in names if all(reader.has_tensor(name) for reader in readers)]
    equal = {name for name in shared if len({_bits(reader.get_tensor(name)) for reader in readers}) == 1}
    return len(equal), sorted(names - equal)


def _bits(value: Any) -> bytes:
    return value if isinstance(value, bytes) else np.asarray(value).tobytes()


def main(directory: str, other: str) -> None:
    _forbid("distckpt")
    path = tf.train.latest_checkpoint(directory)
    equal, different = _compare(path, tf.train.latest_checkpoint(other))
    accuracy = _restored_accuracy(path)
    found = {"accuracy": accuracy, "equal_tensors": equal, "different_tensors": different}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
