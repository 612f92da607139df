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
from distckpt.tensors import collection, internals
from distckpt.tensors.items import Aggregated, Evaluated, Read, Serializing, Sorter
from distckpt.tensors.reading import Reads


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
    `graph`: the serialized TrackableObjectGraph, as a tensor: TensorFlow takes 60 ms to make its first one of a string.
    """

    checkpoint: Any
    graph: Any
    replicated: Reads
    aggregated: tuple[Aggregated, ...]
    reads: Reads
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
        try:
            return self.lasting and self._is_unchanged()
        except ValueError:  # an object that can no longer be saved: the walk will say why
            return False

    def _is_unchanged(self) -> bool:
        return (
            all(map(Node.is_unchanged, self.nodes))
            and all(internals.variable_behind(trackable) is variable for trackable, variable in self.wrapped)
            and all(names == internals.legacy_attributes(trackable) for trackable, names in self.legacy)
            and _same(self.attached, tuple(internals.attached(self.checkpoint)))
            and _same(self.slots, _slots(self.nodes))
        )


@collection.deferred()
def walk(checkpoint: Any, world_size: int) -> Tracked:
    """Walks over all that `checkpoint` (a tf.train.Checkpoint) tracks, as `checkpoint.write` would.

    Raises UnsupportedState where TensorFlow could not save it either, or TensorFlow's own tf.errors.OpError.
    """
    try:
        found = internals.serialize(checkpoint)
    except (ValueError, NotImplementedError) as error:
        raise UnsupportedState(f"TensorFlow cannot save this checkpoint: {error}") from error
    sorter = Sorter(world_size)
    for trackable, values in found.tensors:
        sorter.add(trackable, values)
    nodes = tuple(map(_node, internals.objects(checkpoint)))
    return Tracked(
        checkpoint=checkpoint,
        graph=tf.constant(found.graph),
        replicated=Reads(sorted(sorter.replicated, key=_key)),
        aggregated=tuple(sorted(sorter.aggregated, key=_key)),
        reads=Reads(sorter.reads),
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
