"""Where a save gets its tensors from: a tf.train.Checkpoint and the strategy that its variables were made under.

Both methods are for the training thread, between steps. Under several workers all of them must call `capture` at the
same step and in the same order: variables that aggregate on read run collectives there, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import tensorflow as tf

from distckpt.errors import ConfigurationError, UnsupportedState
from distckpt.model import Place, TensorSpec
from distckpt.protocol.plan import specs_digest
from distckpt.tensors import internals
from distckpt.tensors.aggregation import Aggregation
from distckpt.tensors.foreign import saver_payloads
from distckpt.tensors.host import fetch
from distckpt.tensors.items import Evaluated, Serializing
from distckpt.tensors.layout import Layout, fixed_spec, parse_slice
from distckpt.tensors.snapshot import OwnTensor, Snapshot
from distckpt.tensors.tracked import Tracked, walk


class Source:
    """Captures what `checkpoint` (a tf.train.Checkpoint) tracks, as the worker at `place`.

    What it writes has the same keys and bytes as `checkpoint.write` would: replicated tensors from whichever worker,
    everything else (plain variables, Python state, tables, iterators, the object graph) from the chief. The others take
    it too, at the same moment, and write it only if the chief is gone: their next step would wait for the chief anyway.
    `fetching`: variables are on other tasks (parameter servers), and their values are copied to this one.
    """

    def __init__(self, checkpoint: Any, place: Place, *, fetching: bool = False) -> None:
        self._checkpoint = checkpoint
        self._place = place
        self._fetching = fetching
        self._aggregation = Aggregation()
        self._tracked: Tracked | None = None
        self._layout: Layout | None = None

    def prepare(self) -> None:
        """Does before the first capture what it would have to do. Raises as `capture` does."""
        # What TensorFlow does for the first time takes it milliseconds. The counter is made by the first look at it.
        self._checkpoint.save_counter.assign_add(0)
        tracked = self._refresh()
        self._layout_of(tracked, tracked.replicated.values())
        tracked.reads.values()

    def layout(self) -> Layout:
        """What all workers hold alike, as of now; runs no collectives. Raises as `capture` does."""
        tracked = self._refresh()
        return self._layout or self._layout_of(tracked, tracked.replicated.values())

    def capture(self, *, looked: bool = False) -> Snapshot:
        """Takes references to all values: some 5 µs a variable, and 100 the first time and after a change.

        `looked`: this thread has asked for the `layout`, and done nothing to the model since; 2 µs a variable less.
        Raises UnsupportedState for what TensorFlow cannot save either, ConfigurationError inside a tf.function, and
        TensorFlow's own tf.errors.OpError: from an iterator that cannot be saved, or where a collective fails because
        another worker died.
        """
        tracked = self._tracked if looked and self._tracked else self._refresh()
        tracked, given = self._chiefs_own(tracked) if self._place.is_chief else self._spare(tracked)
        tensors = tracked.replicated.values()
        layout = self._layout_of(tracked, tensors)
        tensors.update(self._aggregation.read(tracked.aggregated))
        if self._fetching:  # after all were read: the servers go on
            tensors = {key: fetch(tensor) for key, tensor in tensors.items()}
            given = given and [replace(item, tensor=fetch(item.tensor)) for item in given]
        if given is None or not self._place.is_chief:
            return Snapshot(layout, tensors, (), (), given)
        saved = [payload for name, objects in tracked.savers.items() for payload in saver_payloads(name, objects)]
        return Snapshot(layout, tensors, given, saved)

    def count_save(self) -> Any:
        """Increments `save_counter` and returns it."""
        counter = self._checkpoint.save_counter
        counter.assign_add(1)
        return counter

    def _spare(self, tracked: Tracked) -> tuple[Tracked, list[OwnTensor] | None]:
        """What the chief has as its own, as this worker has it; None where that cannot be had here.

        A saver of TensorFlow's registry may write files: it runs on the chief alone.
        """
        if tracked.savers:
            return tracked, None
        try:
            return self._chiefs_own(tracked)
        except (UnsupportedState, tf.errors.OpError):  # it is no reason to fail a save that the chief can do
            return self._tracked or tracked, None

    def _chiefs_own(self, tracked: Tracked) -> tuple[Tracked, list[OwnTensor]]:
        tracked, own = self._given(tracked)
        own += _evaluate_all(tracked.evaluated)
        own += [OwnTensor(key, tensor) for key, tensor in tracked.reads.values().items()]
        return tracked, [*own, OwnTensor(internals.OBJECT_GRAPH_KEY, tracked.graph)]

    def _refresh(self) -> Tracked:
        if not tf.executing_eagerly():
            raise ConfigurationError("a checkpoint is saved from the training loop, not from inside a tf.function")
        if self._tracked is None or not self._tracked.is_fresh():
            return self._walk()
        return self._tracked

    def _walk(self) -> Tracked:
        self._layout = None
        self._tracked = walk(self._checkpoint, self._place.world_size)
        return self._tracked

    def _given(self, tracked: Tracked) -> tuple[Tracked, list[OwnTensor]]:
        """What objects that serialize themselves give now; after another walk if they give other keys than before."""
        try:
            return tracked, _serialize_all(tracked.serializing)
        except _OtherKeysError:
            tracked = self._walk()
        try:
            return tracked, _serialize_all(tracked.serializing)
        except _OtherKeysError as error:
            raise UnsupportedState(str(error)) from error

    def _layout_of(self, tracked: Tracked, tensors: Mapping[str, Any]) -> Layout:
        """The layout that fits these values of `tracked.replicated`; kept where only a walk can change it."""
        if self._layout is not None and len(self._layout.replicated) == len(tensors) + len(tracked.aggregated):
            return self._layout
        present = [read for read in tracked.replicated if read.key in tensors]
        specs = [read.spec or fixed_spec(read.key, read.dtype, tensors[read.key].shape.as_list()) for read in present]
        specs += [item.spec for item in tracked.aggregated]
        collective = tuple(item.key for item in tracked.aggregated) if self._place.world_size > 1 else ()
        replicated = tuple(sorted(specs, key=_name))
        layout = Layout(replicated, specs_digest(replicated), collective)
        settled = all(read.spec is not None and read.key in tensors for read in tracked.replicated)
        self._layout = layout if settled else None
        return layout


class _OtherKeysError(Exception):
    """An object gives other keys than it gave at the walk."""


def _name(spec: TensorSpec) -> str:
    return spec.name


def _serialize_all(objects: Iterable[Serializing]) -> list[OwnTensor]:
    found = []
    for item in objects:
        for key, (local_name, value) in zip(item.keys, _values_of(item), strict=True):
            if not key.endswith(internals.key_ending(local_name)):
                raise _OtherKeysError(f"{type(item.trackable).__name__} gave {local_name!r} where {key!r} was")
            tensor = _evaluate(key, value)
            if tensor is not None:
                found.append(OwnTensor(key, tensor))
    return found


def _values_of(item: Serializing) -> list[tuple[str, Any]]:
    try:
        values = list(internals.values_of(item.trackable).items())
    except (ValueError, NotImplementedError) as error:
        raise UnsupportedState(f"{', '.join(item.keys)}: TensorFlow cannot save it: {error}") from error
    except tf.errors.OpError as error:
        error.add_note(f"while {', '.join(item.keys)} was read for a checkpoint")
        raise
    if len(values) != len(item.keys):
        raise _OtherKeysError(f"{type(item.trackable).__name__} gave {len(values)} values, and {len(item.keys)} before")
    return values


def _evaluate_all(items: Iterable[Evaluated]) -> list[OwnTensor]:
    found = []
    for item in items:
        tensor = _evaluate(item.key, item.value)
        if tensor is not None:
            shape, part = parse_slice(item.key, item.slice_spec) if item.slice_spec else (None, None)
            found.append(OwnTensor(item.key, tensor, part, shape))
    return found


def _evaluate(key: str, value: Any) -> Any | None:
    try:
        return internals.evaluate(value)
    except (ValueError, NotImplementedError) as error:
        raise UnsupportedState(f"{key}: TensorFlow cannot save it: {error}") from error
