"""The values of all variables that a checkpoint tracks, held by reference, to be put back later."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from distckpt.tensors import internals


class Held:
    """Holds the values as they are now. Each worker for itself: no collectives run.

    They are tensors, not copies: TensorFlow gives a variable that is written new memory while somebody holds the old.
    Of a variable on several replicas each replica's own value is held, so those that differ come back as they were.
    """

    def __init__(self, checkpoint: Any) -> None:
        self._values = [(variable, variable.read_value()) for variable in _variables(checkpoint)]

    def put_back(self) -> None:
        for variable, value in self._values:
            variable.assign(value)


def _variables(checkpoint: Any) -> Iterator[Any]:
    """The variables of this process, those on several replicas one by one."""
    for trackable in internals.objects(checkpoint):
        variable = internals.variable_behind(trackable)
        if variable is None:
            continue
        if internals.is_distributed(variable):
            yield from variable.distribute_strategy.experimental_local_results(variable)
        else:
            yield variable
