"""What a walk found, sorted by how it is read and by who holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from distckpt.errors import UnsupportedState
from distckpt.model import TensorSpec
from distckpt.tensors import internals
from distckpt.tensors.layout import fixed_spec, has_variable_length

_WORTH_A_REFERENCE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Read:
    """A variable that is read by reference. `spec` is None where its shape is known only from its value."""

    key: str
    handle: Any
    dtype: Any
    spec: TensorSpec | None

    @property
    def worth_a_reference(self) -> bool:
        """Large enough that a copy costs more than telling TensorFlow not to make one."""
        return self.spec is None or self.spec.size_bytes >= _WORTH_A_REFERENCE_BYTES


@dataclass(frozen=True, slots=True)
class Aggregated:
    """A variable whose value is computed from all replicas when it is read: their sum or their mean."""

    key: str
    variable: Any
    spec: TensorSpec


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A value that is computed when it is asked for; `slice_spec` is "" or TensorFlow's name of a slice."""

    key: str
    slice_spec: str
    value: Any


@dataclass(frozen=True, slots=True)
class Serializing:
    """An object that gives its values itself: Python state, a table, an iterator. `keys` in the order it gives them."""

    trackable: Any
    keys: tuple[str, ...]


class Sorter:
    """`add` each object that the walk found, with its values by checkpoint key.

    `replicated` and `aggregated` are what all workers hold alike, the rest is for the chief. `lasting`: False where a
    value is a tensor of the moment, which only another walk renews. `wrapped`: objects that stand for a variable.
    """

    def __init__(self, world_size: int) -> None:
        self.alone = world_size == 1
        self.keys: set[str] = set()
        self.replicated: list[Read] = []
        self.aggregated: list[Aggregated] = []
        self.reads: list[Read] = []
        self.evaluated: list[Evaluated] = []
        self.serializing: list[Serializing] = []
        self.wrapped: list[tuple[Any, Any]] = []
        self.lasting = True
        self._alike = 0

    def add(self, trackable: Any, values: Mapping[str, Any]) -> None:
        self._refuse_twice(values)
        variable = internals.variable_behind(trackable)
        if variable is not None and variable is not trackable:
            self.wrapped.append((trackable, variable))
        if variable is not None and internals.is_distributed(variable):
            self._add_distributed(variable, values)
        elif variable is not None and internals.is_plain(variable):
            for key in values:
                self._add_read(_read(key, variable), replicated=self.alone)
        elif internals.serializes_itself(trackable):
            self.serializing.append(Serializing(trackable, tuple(values)))
        else:
            self._add_evaluated(values)

    def _add_distributed(self, variable: Any, values: Mapping[str, Any]) -> None:
        on_read = variable.synchronization == tf.VariableSynchronization.ON_READ
        first_only = variable.aggregation == tf.VariableAggregation.ONLY_FIRST_REPLICA
        for key in values:
            if on_read and not first_only:
                self.aggregated.append(_aggregated(key, variable))
            else:
                component = self._component(variable, alike=not on_read and variable.trainable)
                self._add_read(_read(key, component), replicated=self.alone or not on_read)

    def _component(self, variable: Any, *, alike: bool) -> Any:
        """The replica to read: where all are alike another in turn, as each device has its own link to the host.

        Those that gradients update are alike. Of the others the first replica's value is what TensorFlow saves: moving
        averages of Keras 3 differ from replica to replica.
        """
        replicas = variable.distribute_strategy.experimental_local_results(variable)
        if not alike:
            return replicas[0]
        self._alike += 1
        return replicas[(self._alike - 1) % len(replicas)]

    def _add_read(self, read: Read, *, replicated: bool) -> None:
        (self.replicated if replicated and not has_variable_length(read.dtype) else self.reads).append(read)

    def _add_evaluated(self, values: Mapping[str, Any]) -> None:
        for key, value in values.items():
            for slice_spec, part in value.items() if isinstance(value, dict) else [("", value)]:
                self.evaluated.append(Evaluated(key, slice_spec, part))
                self.lasting = self.lasting and internals.is_deferred(part)

    def _refuse_twice(self, values: Mapping[str, Any]) -> None:
        for key in values:
            if key in self.keys:
                raise UnsupportedState(f"two tensors have the same key in the checkpoint: {key}")
            self.keys.add(key)


def _read(key: str, variable: Any) -> Read:
    whole = variable.shape.is_fully_defined() and not has_variable_length(variable.dtype)
    spec = fixed_spec(key, variable.dtype, variable.shape.as_list()) if whole else None
    return Read(key, variable.handle, variable.dtype, spec)


def _aggregated(key: str, variable: Any) -> Aggregated:
    if not variable.shape.is_fully_defined():
        raise UnsupportedState(f"{key}: a variable that aggregates on read must have a fully defined shape")
    if variable.aggregation == tf.VariableAggregation.NONE:
        raise UnsupportedState(
            f"{key}: the replicas' values differ, and the variable has no aggregation to save them by"
        )
    return Aggregated(key, variable, fixed_spec(key, variable.dtype, variable.shape.as_list()))
