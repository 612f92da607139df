"""The list of what a checkpoint tracks: made by one walk over TensorFlow's object graph, and checked before each use.

A walk takes 45 to 90 µs a variable, too much for every save; the check, that each object still names the very same
children, takes 1 to 3 µs an object. So a list is used again only after it was found to be still true, on the training
thread, before anything is read: a stale list is never saved (docs/decisions/0004-capture.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from distckpt.errors import UnsupportedState
from distckpt.model import TensorSpec
from distckpt.tensors import internals
from distckpt.tensors.layout import fixed_spec, has_variable_length


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


@dataclass(frozen=True, slots=True)
class Node:
    """An object as it was at the walk: the names of its children, and who they were.

    They are told apart by identity (variables compare by value), and held, so that none can have another's identity.
    """

    trackable: Any
    ask: Callable[[], Mapping[str, Any]]
    names: tuple[str, ...]
    identities: tuple[int, ...]
    children: tuple[Any, ...]

    def is_unchanged(self) -> bool:
        found = self.ask()
        return tuple(found) == self.names and tuple(map(id, found.values())) == self.identities


@dataclass(frozen=True, slots=True)
class Tracked:
    """What one walk found. `replicated` and `aggregated` are what all workers hold alike, sorted by key.

    `wrapped`: objects that stand for a variable, with the variable (Keras 3's, tf_keras's under mixed precision).
    `lasting`: False where the old kind of savable object holds a tensor of the moment, so that each save must walk.
    """

    checkpoint: Any
    graph: bytes
    replicated: tuple[Read, ...]
    aggregated: tuple[Aggregated, ...]
    reads: tuple[Read, ...]
    evaluated: tuple[Evaluated, ...]
    serializing: tuple[Serializing, ...]
    savers: Mapping[str, Mapping[str, Any]]
    wrapped: tuple[tuple[Any, Any], ...]
    lasting: bool
    nodes: tuple[Node, ...]
    legacy: tuple[tuple[Any, frozenset[str]], ...]
    attached: tuple[tuple[str, Any], ...]
    slots: tuple[tuple[str, Any, Any], ...]

    def is_fresh(self) -> bool:
        """Whether a new walk would find the same; on the training thread, 1 to 3 µs an object."""
        return (
            self.lasting
            and all(map(Node.is_unchanged, self.nodes))
            and all(internals.variable_behind(trackable) is variable for trackable, variable in self.wrapped)
            and all(names == internals.legacy_attributes(trackable) for trackable, names in self.legacy)
            and _same(self.attached, tuple(internals.attached(self.checkpoint)))
            and _same(self.slots, _slots(self.nodes))
        )


_WORTH_A_REFERENCE_BYTES = 1 << 16


def walk(checkpoint: Any, world_size: int) -> Tracked:
    """Walks over all that `checkpoint` (a tf.train.Checkpoint) tracks, as `checkpoint.write` would.

    Raises UnsupportedState where TensorFlow could not save it either.
    """
    try:
        found = internals.serialize(checkpoint)
    except (ValueError, NotImplementedError, tf.errors.OpError) as error:
        raise UnsupportedState(f"TensorFlow cannot save this checkpoint: {error}") from error
    sorter = _Sorter(world_size)
    for trackable, values in found.tensors:
        sorter.add(trackable, values)
    nodes = tuple(map(_node, internals.objects(checkpoint)))
    return Tracked(
        checkpoint=checkpoint,
        graph=found.graph,
        replicated=tuple(sorted(sorter.replicated, key=_key)),
        aggregated=tuple(sorted(sorter.aggregated, key=_key)),
        reads=tuple(sorter.reads),
        evaluated=tuple(sorter.evaluated),
        serializing=tuple(sorter.serializing),
        savers=found.savers,
        wrapped=tuple(sorter.wrapped),
        lasting=sorter.lasting,
        nodes=nodes,
        legacy=_legacy(nodes),
        attached=tuple(internals.attached(checkpoint)),
        slots=_slots(nodes),
    )


class _Sorter:
    """Sorts what the walk found by how it is read, and by who holds it."""

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
                # The first replica of each worker has a value of its own where nothing aggregates.
                component = variable.distribute_strategy.experimental_local_results(variable)[0]
                self._add_read(_read(key, component), replicated=self.alone or not on_read)

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


def _key(item: Read | Aggregated) -> str:
    return item.key


def _node(trackable: Any) -> Node:
    ask = internals.asking_for_children(trackable)
    children = ask()
    return Node(trackable, ask, tuple(children), tuple(map(id, children.values())), tuple(children.values()))


def _legacy(nodes: tuple[Node, ...]) -> tuple[tuple[Any, frozenset[str]], ...]:
    """What saves the old way; variables, which do that too, always save their one value."""
    others = [node.trackable for node in nodes if not isinstance(node.trackable, tf.Variable)]
    named = [(trackable, internals.legacy_attributes(trackable)) for trackable in others]
    return tuple((trackable, names) for trackable, names in named if names is not None)


def _slots(nodes: tuple[Node, ...]) -> tuple[tuple[str, Any, Any], ...]:
    optimizers = [node.trackable for node in nodes if hasattr(type(node.trackable), "get_slot_names")]
    if not optimizers:
        return ()
    variables = [node.trackable for node in nodes if isinstance(node.trackable, tf.Variable)]
    return tuple(slot for optimizer in optimizers for slot in internals.slots(optimizer, variables))


def _same(before: tuple[tuple[Any, ...], ...], now: tuple[tuple[Any, ...], ...]) -> bool:
    """Whether both hold the very same objects (variables compare by value, so `==` would not do)."""
    return len(before) == len(now) and all(
        old is new or (isinstance(old, str) and old == new)
        for one, other in zip(before, now, strict=True)
        for old, new in zip(one, other, strict=True)
    )
