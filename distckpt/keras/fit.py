"""What of Keras' `fit` a resuming callback must touch, each behind one small function, for tf_keras and Keras 3.

Neither offers a way to begin in the middle of an epoch. tf_keras' BackupAndRestore sets the number of the first step,
and then trains on the first batches of the data again; Keras 3's begins the epoch anew. So here `fit` begins the epoch,
and the batches that are trained already are taken from its iterator and dropped: see `Skipping`.
Written against tf_keras 2.21 (src/engine/training.py) and Keras 3 (src/backend/tensorflow/trainer.py).
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from distckpt.errors import ConfigurationError

log = logging.getLogger("distckpt")


def is_keras3(model: Any) -> bool:
    keras = sys.modules.get("keras")  # where it was not imported, nothing is of it
    return isinstance(model, getattr(keras, "Model", ()))


def fit_can_only_be_keras3s() -> bool:
    """Whether tf_keras is neither loaded nor what tf.keras will load (tensorflow/python/util/lazy_loader.py)."""
    return "tf_keras" not in sys.modules and os.environ.get("TF_USE_LEGACY_KERAS") not in ("true", "True", "1")


def check_model(model: Any) -> None:
    """Raises ConfigurationError for a model of which not all variables exist, so that they could not be restored."""
    if is_keras3(model) and sys.modules["keras"].backend.backend() != "tensorflow":
        raise ConfigurationError("DistributedCheckpoint saves TensorFlow's variables: use Keras' tensorflow backend")
    if not model.built:
        raise ConfigurationError(
            "DistributedCheckpoint restores the model before the first batch: build it before fit, by an Input layer "
            "or model.build(input_shape)"
        )
    if model.optimizer is None:
        raise ConfigurationError("DistributedCheckpoint counts the optimizer's iterations: compile with an optimizer")


def build_optimizer(model: Any) -> None:
    """Makes the optimizer's variables, which are otherwise made by the first step, and restored too late for it."""
    with model.distribute_strategy.scope():
        model.optimizer.build(model.trainable_variables)


def untracked_variables(model: Any) -> list[Any]:
    """The variables that tf.train.Checkpoint(model=model) misses: Keras 3's states of random generators (Dropout)."""
    if not is_keras3(model):
        return []
    known = {id(variable) for variable in (*model.weights, *model.metrics_variables)}
    return [variable for variable in model.variables if id(variable) not in known]


def metric_variables(model: Any) -> list[Any]:
    """Of the metrics that are reset when an epoch begins."""
    return [variable for metric in model.metrics for variable in metric.variables]


def metric_values(model: Any) -> list[NDArray[Any]]:
    """Under several workers a collective: each must call it."""
    return [np.asarray(variable.numpy()) for variable in metric_variables(model)]


class Steps:
    """`last`: the optimizer's count of iterations after the last batch, known without waiting for the batch's result.

    tf_keras returns from a batch before its device has done it: there the batches are counted, from what was read last.
    Keras 3 has waited for the logs by then, so nothing is lost by reading; and it counts the last, shorter execution of
    an epoch (`steps_per_execution`) as a whole one. Never goes back, so that no step comes twice to different ends.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self.last = 0
        self.read()

    def trained(self, batches: int) -> None:
        if is_keras3(self._model):
            self.read()
        else:
            self.last += batches

    def read(self) -> None:
        """Waits for what the device still has to do."""
        self.last = max(self.last, int(self._model.optimizer.iterations.numpy()))


def begin_at_epoch(model: Any, epoch: int) -> None:
    """To be called in `on_train_begin`: this `fit` begins at `epoch`."""
    if is_keras3(model):
        model._initial_epoch = epoch  # noqa: SLF001 - as keras.callbacks.BackupAndRestore does
    else:
        model._training_state = _TrainingState(epoch)  # noqa: SLF001 - as tf_keras.callbacks.BackupAndRestore does


def forget_epoch(model: Any) -> None:
    """Once `fit` has begun: the next one of this model is another."""
    if is_keras3(model):
        model._initial_epoch = None  # noqa: SLF001 - see begin_at_epoch
    else:
        model._training_state = None  # noqa: SLF001 - see begin_at_epoch


class _TrainingState:
    """What tf_keras asks where to begin (src/distribute/worker_training_state.py)."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch

    def maybe_load_initial_counters_from_ckpt(self, *_: Any, **__: Any) -> tuple[int, int]:
        """The epoch and the step."""
        return self._epoch, 0


class Skipping:
    """Stands in for `model.train_function` until `batches` batches have been taken from the data, untrained.

    Keras asks that function for each step (`steps_per_execution` batches). In place of a step it gives `logs`; after
    the last skipped one the model's metrics get the values `metrics`, so that what the epoch reports is as if it had
    not been interrupted.
    """

    def __init__(self, model: Any, batches: int, logs: Mapping[str, Any], metrics: Sequence[NDArray[Any]]) -> None:
        self._model = model
        self._train: Any = model.train_function  # in tf_keras a tf.function, unless it runs eagerly
        self._left = batches
        self._logs = logs
        self._metrics = metrics
        model.train_function = self

    def __call__(self, iterator: Any) -> dict[str, Any]:
        wanted = min(self._left, _steps_per_execution(self._model))
        batch = None
        for taken in range(wanted):
            try:
                batch = next(iterator)
            except (StopIteration, tf.errors.OutOfRangeError):
                if not taken:
                    raise
                self._left = wanted  # Keras counts the last, shorter execution of an epoch as a whole one
                break
        self._left -= wanted
        if not self._left:
            self.remove()
            self._make_metrics(iterator, batch)
            self._set_metrics()
        return dict(self._logs)

    def remove(self) -> None:
        """Gives the model its own function back."""
        if self._model.train_function is self:
            self._model.train_function = self._train

    def _make_metrics(self, iterator: Any, batch: Any) -> None:
        """Their variables, which Keras makes when it traces the first step; nothing is trained here."""
        if is_keras3(self._model):
            self._model._symbolic_build(data_batch=batch)  # noqa: SLF001 - as Keras' own train_on_batch does
        elif not self._model.run_eagerly:
            self._train.get_concrete_function(iterator)

    def _set_metrics(self) -> None:
        variables = metric_variables(self._model)
        if [tuple(each.shape) for each in variables] != [each.shape for each in self._metrics]:
            log.warning("the metrics of the interrupted epoch do not fit the model: they begin anew in its middle")
            return
        with self._model.distribute_strategy.scope():
            for variable, value in zip(variables, self._metrics, strict=True):
                variable.assign(value)


def _steps_per_execution(model: Any) -> int:
    if is_keras3(model):
        return int(model.steps_per_execution)
    steps = model._steps_per_execution  # noqa: SLF001 - a variable, as the last execution of an epoch may be shorter
    return 1 if steps is None else int(steps.numpy())
