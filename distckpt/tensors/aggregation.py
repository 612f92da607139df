"""Reads the variables whose value is computed from all replicas when it is read (batch-norm averages, metrics).

TensorFlow reads them one by one, which takes 1 ms each on several devices and several with several workers; here they
are read in one function, with the same bits. Under several workers these are collectives: all workers must read, at
the same step, and trace the function equally often, as tracing numbers the collectives. So it is traced again only
when the variables themselves are others, which they then are on all workers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from distckpt.tensors.items import Aggregated


class Aggregation:
    """`read` gives the values by key."""

    def __init__(self) -> None:
        self._variables: list[Any] = []
        self._function: Callable[..., list[Any]] | None = None

    def read(self, items: Sequence[Aggregated]) -> Mapping[str, Any]:
        """The values of all replicas together, as `tf.train.Checkpoint.write` would save them.

        Raises tf.errors.OpError where another worker died or does something else.
        """
        if not items:
            return {}
        variables = [item.variable for item in items]
        if self._function is None or list(map(id, variables)) != list(map(id, self._variables)):
            self._variables, self._function = variables, _reading(variables)
        replicas = {_replicas(variable): tf.constant(float(_replicas(variable))) for variable in variables}
        return dict(zip((item.key for item in items), self._function(replicas), strict=True))


def _reading(variables: Sequence[Any]) -> Callable[..., list[Any]]:
    def read(replicas: Mapping[int, Any]) -> list[Any]:
        return [_read(variable, replicas[_replicas(variable)]) for variable in variables]

    function: Callable[..., list[Any]] = tf.function(read, autograph=False)
    return function


def _read(variable: Any, replicas: Any) -> Any:
    total = variable.distribute_strategy.reduce("SUM", variable, axis=None)
    if variable.aggregation == tf.VariableAggregation.SUM:
        return total
    # The number is an argument: TensorFlow would turn the division by a constant into a multiplication by its
    # reciprocal, which is not the same in the last bit, and not what it does when it saves.
    return total / tf.cast(replicas, total.dtype)


def _replicas(variable: Any) -> int:
    return int(variable.distribute_strategy.num_replicas_in_sync)
