"""How far a `fit` has come, as JSON within the checkpoint: the epoch, the batch, the history, the metrics' state.

It stands in the checkpoint itself (as a string variable, by TensorFlow's PythonState) and not beside it, so that it is
of the same step as the weights, whatever crashes.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

FORMAT = 1

History = dict[str, list[Any]]


class Progress(tf.train.experimental.PythonState):  # type: ignore[misc]  # TensorFlow has no types
    """`epoch` and `batch`: the first batch that is still to be trained, both counted from 0.

    `logs`: what Keras reported after the batch before it. `history` and `epochs` are as in Keras' `History`, of the
    epochs that have ended. `metrics`: the values of the variables of the model's metrics in the middle of an epoch.
    `best`: the best value of the monitored metric so far. `restored`: whether all this comes from a checkpoint.
    """

    def __init__(self, best: float | None) -> None:
        self.epoch = 0
        self.batch = 0
        self.logs: dict[str, Any] = {}
        self.history: History = {}
        self.epochs: list[int] = []
        self.metrics: list[NDArray[Any]] = []
        self.best = best
        self.restored = False

    def serialize(self) -> str:
        return json.dumps(
            {
                "format": FORMAT,
                "epoch": self.epoch,
                "batch": self.batch,
                "logs": self.logs,
                "history": self.history,
                "epochs": self.epochs,
                "metrics": [_encoded(value) for value in self.metrics],
                "best": self.best,
            }
        )

    def deserialize(self, string_value: str | bytes) -> None:
        """Raises ValueError for a format that this version does not know."""
        told = json.loads(string_value)
        if told["format"] != FORMAT:
            raise ValueError(f"the training's progress has format {told['format']}; this version reads {FORMAT}")
        self.epoch, self.batch = told["epoch"], told["batch"]
        self.logs, self.history, self.epochs = told["logs"], told["history"], told["epochs"]
        self.metrics = [_decoded(each) for each in told["metrics"]]
        self.best = told["best"]
        self.restored = True

    def batch_ended(self, epoch: int, batch: int, logs: Mapping[str, Any], metrics: Iterable[NDArray[Any]]) -> None:
        """`batch` batches of `epoch` are trained."""
        self.epoch, self.batch = epoch, batch
        self.logs, self.metrics = plain(logs), list(metrics)

    def epoch_ended(self, epoch: int, logs: Mapping[str, Any]) -> None:
        self.epoch, self.batch = epoch + 1, 0
        self.logs, self.metrics = plain(logs), []
        self.epochs.append(epoch)
        for name, value in self.logs.items():
            self.history.setdefault(name, []).append(value)


def plain(logs: Mapping[str, Any]) -> dict[str, Any]:
    """Keras' logs as Python numbers, and lists of them where a metric is no scalar."""
    return {name: np.asarray(value).tolist() for name, value in logs.items()}


def finite(logs: Mapping[str, Any]) -> dict[str, float]:
    """Those of the plain `logs` that can stand in a manifest: finite numbers."""
    numbers = {name: value for name, value in logs.items() if isinstance(value, int | float)}
    return {name: float(value) for name, value in numbers.items() if math.isfinite(value)}


def _encoded(value: NDArray[Any]) -> dict[str, Any]:
    data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
    return {"dtype": value.dtype.name, "shape": list(value.shape), "data": data}


def _decoded(told: Mapping[str, Any]) -> NDArray[Any]:
    dtype = tf.dtypes.as_dtype(told["dtype"]).as_numpy_dtype  # knows bfloat16 too
    return np.frombuffer(base64.b64decode(told["data"]), dtype).reshape(told["shape"])
