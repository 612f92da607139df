"""The list of what is tracked is kept between captures, and never used when it is no longer true."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any
from unittest import mock

import keras
import pytest
import tensorflow as tf
import tf_keras
from tensorflow.python.ops import resource_variable_ops

from distckpt.errors import UnsupportedState
from distckpt.tensors import source as source_module
from distckpt.tensors.cluster import ALONE
from distckpt.tensors.source import Source

Change = Callable[[], Any]


def attribute_set_for_the_first_time() -> tuple[Any, Change]:
    checkpoint = tf.train.Checkpoint(a=tf.Variable(1.0))
    return checkpoint, lambda: setattr(checkpoint, "b", tf.Variable(2.0))


def attribute_replaced() -> tuple[Any, Change]:
    checkpoint = tf.train.Checkpoint(a=tf.Variable(1.0))
    return checkpoint, lambda: setattr(checkpoint, "a", tf.Variable(2.0))


def attribute_deleted() -> tuple[Any, Change]:
    checkpoint = tf.train.Checkpoint(a=tf.Variable(1.0), b=tf.Variable(2.0))
    return checkpoint, lambda: delattr(checkpoint, "b")


def variable_added_deep_inside() -> tuple[Any, Change]:
    module = tf.Module()
    module.inner = tf.Module()
    return tf.train.Checkpoint(module=module), lambda: setattr(module.inner, "late", tf.Variable(3.0))


def list_appended() -> tuple[Any, Change]:
    module = tf.Module()
    module.parts = [tf.Variable(1.0)]
    return tf.train.Checkpoint(module=module), lambda: module.parts.append(tf.Variable(2.0))


def dict_item_set() -> tuple[Any, Change]:
    module = tf.Module()
    module.parts = {"a": tf.Variable(1.0)}
    return tf.train.Checkpoint(module=module), lambda: module.parts.update(b=tf.Variable(2.0))


def keras_layer_built_late() -> tuple[Any, Change]:
    model = keras.Sequential([keras.layers.Dense(3), keras.layers.Dense(1)])
    return tf.train.Checkpoint(model=model), lambda: model(tf.ones([2, 4]))


def tf_keras_layer_built_late() -> tuple[Any, Change]:
    model = tf_keras.Sequential([tf_keras.layers.Dense(3), tf_keras.layers.Dense(1)])
    return tf.train.Checkpoint(model=model), lambda: model(tf.ones([2, 4]))


def slots_of(optimizer: Any) -> tuple[Any, Change]:
    variable = tf.Variable([1.0, 2.0])
    checkpoint = tf.train.Checkpoint(variable=variable, optimizer=optimizer)
    return checkpoint, lambda: optimizer.apply_gradients([(tf.ones([2]), variable)])


def second_variable_for_an_old_optimizer() -> tuple[Any, Change]:
    first, second = tf.Variable([1.0]), tf.Variable([2.0])
    optimizer = tf_keras.optimizers.legacy.SGD(momentum=0.9)
    optimizer.apply_gradients([(tf.ones([1]), first)])
    checkpoint = tf.train.Checkpoint(first=first, second=second, optimizer=optimizer)
    return checkpoint, lambda: optimizer.apply_gradients([(tf.ones([1]), second)])


def save_counter_made() -> tuple[Any, Change]:
    module = tf.Module()
    module.a = tf.Variable(1.0)
    checkpoint = tf.train.Checkpoint(module)
    return checkpoint, lambda: checkpoint.save_counter.assign_add(1)


def variables_given_their_values_late(count: int) -> tuple[Any, Change]:
    late = [resource_variable_ops.UninitializedVariable(shape=[0, 3], dtype=tf.int32) for _ in range(count)]
    empty = tf.Variable(tf.zeros([0, 3]))
    checkpoint = tf.train.Checkpoint(late=late, there=tf.Variable([1.0, 2.0]), empty=empty)
    return checkpoint, lambda: [variable.assign(tf.zeros([0, 3], tf.int32)) for variable in late]


class _Growing(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self._names = ("one",)

    def _serialize_to_tensors(self) -> dict[str, Any]:
        return {name: tf.constant(name) for name in self._names}

    def _restore_from_tensors(self, restored_tensors: Any) -> None:
        pass


def object_that_gives_more_values() -> tuple[Any, Change]:
    growing = _Growing()
    return tf.train.Checkpoint(growing=growing), lambda: setattr(growing, "_names", ("one", "two"))


CHANGES: dict[str, Callable[[], tuple[Any, Change]]] = {
    "an attribute set for the first time": attribute_set_for_the_first_time,
    "an attribute replaced": attribute_replaced,
    "an attribute deleted": attribute_deleted,
    "a variable added deep inside": variable_added_deep_inside,
    "a list appended to": list_appended,
    "a dict's item set": dict_item_set,
    "a Keras 3 layer built late": keras_layer_built_late,
    "a tf_keras layer built late": tf_keras_layer_built_late,
    "slots of a Keras 3 optimizer": lambda: slots_of(keras.optimizers.Adam()),
    "slots of a tf_keras optimizer": lambda: slots_of(tf_keras.optimizers.Adam()),
    "slots of an old optimizer": lambda: slots_of(tf_keras.optimizers.legacy.Adam()),
    "a second variable for an old optimizer": second_variable_for_an_old_optimizer,
    "the save counter made": save_counter_made,
    "a variable given its value late": lambda: variables_given_their_values_late(1),
    "many variables given their values late": lambda: variables_given_their_values_late(300),
    "an object that gives more values": object_that_gives_more_values,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_what_is_tracked_is_in_the_next_capture(change: str, comparing: ModuleType) -> None:
    checkpoint, make_change = CHANGES[change]()
    source = Source(checkpoint, ALONE)
    before = source.capture()
    assert comparing.compare(checkpoint, before) == []
    make_change()
    after = source.capture()
    assert comparing.compare(checkpoint, after) == []
    keys = [{payload.name for payload in comparing.all_payloads(snapshot)} for snapshot in (before, after)]
    assert keys[0] != keys[1] or change == "an attribute replaced"


def test_another_variable_behind_a_keras_variable_is_in_the_next_capture(comparing: ModuleType) -> None:
    layer = keras.layers.Dense(3)
    layer.build((None, 4))
    checkpoint = tf.train.Checkpoint(layer=layer)
    source = Source(checkpoint, ALONE)
    source.capture()
    layer.kernel._value = tf.Variable(tf.ones([4, 3]) * 7.0)
    assert comparing.compare(checkpoint, source.capture()) == []


def test_a_list_changed_in_a_way_that_tensorflow_cannot_save_is_refused_as_tensorflow_does() -> None:
    module = tf.Module()
    module.parts = [tf.Variable(1.0), tf.Variable(2.0)]
    checkpoint = tf.train.Checkpoint(module=module)
    source = Source(checkpoint, ALONE)
    source.capture()
    module.parts.reverse()
    with pytest.raises(UnsupportedState, match="Unable to save the object"):
        source.capture()


def test_while_nothing_changes_the_graph_is_walked_once(comparing: ModuleType) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    lookup = keras.layers.StringLookup(vocabulary=["a", "b"])
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False  # else its state changes by itself, on another thread
    iterator = iter(tf.data.Dataset.range(10).with_options(options))
    checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer, lookup=lookup, iterator=iterator)
    source = Source(checkpoint, ALONE)
    with mock.patch.object(source_module, "walk", wraps=source_module.walk) as walk:
        for _ in range(3):
            model.train_on_batch(tf.ones([2, 4]), tf.ones([2, 1]))
            next(iterator)
            snapshot = source.capture()
    assert walk.call_count == 1
    assert comparing.compare(checkpoint, snapshot) == []


def test_the_layout_is_the_same_object_while_nothing_changes() -> None:
    checkpoint = tf.train.Checkpoint(a=tf.Variable(tf.zeros([3])))
    source = Source(checkpoint, ALONE)
    first = source.capture().layout
    assert source.capture().layout is first
    checkpoint.b = tf.Variable(1.0)
    second = source.layout()
    assert second.digest != first.digest
    assert source.capture().layout is second
