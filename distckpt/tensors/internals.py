"""Every private name of TensorFlow that distckpt uses, each behind one small typed function; nothing else stands here.

No other module of distckpt imports `tensorflow.python` or touches an underscore attribute of TensorFlow's objects
(tests/tensorflow/test_internals.py holds that, and says which name vanished when a new TensorFlow drops one). Written
against TensorFlow 2.21; the file of each name is said where it is used.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any

import tensorflow as tf
from tensorflow.python.checkpoint import checkpoint as checkpoint_lib
from tensorflow.python.checkpoint import checkpoint_management, save_util, saveable_compat
from tensorflow.python.checkpoint import restore as restore_lib
from tensorflow.python.distribute import distribute_lib, multi_worker_util, values
from tensorflow.python.eager import context, execute
from tensorflow.python.ops import io_ops, resource_variable_ops
from tensorflow.python.saved_model import registration
from tensorflow.python.trackable import base, trackable_utils
from tensorflow.python.training.saving import saveable_object, saveable_object_util

PRIVATE_NAMES = (
    (checkpoint_management, "time"),
    (save_util, "serialize_graph_view"),
    (saveable_compat, "_LEGACY_SAVEABLE_NAME"),
    (distribute_lib, "_DefaultDistributionStrategy"),
    (multi_worker_util, "id_in_cluster"),
    (multi_worker_util, "normalize_cluster_spec"),
    (values, "DistributedVariable"),
    (values, "MirroredVariable"),
    (context.Context, "set_config_key_value"),
    (context.Context, "get_config_key_value"),
    (context, "context"),
    (execute, "execute"),
    (resource_variable_ops, "BaseResourceVariable"),
    (resource_variable_ops.BaseResourceVariable, "_serialize_to_tensors"),
    (io_ops, "restore_v2"),
    (registration, "get_save_function"),
    (registration, "get_registered_saver_name"),
    (checkpoint_lib, "_CheckpointRestoreCoordinator"),
    (checkpoint_lib._CheckpointRestoreCoordinator, "restore_saveables"),  # noqa: SLF001 - it is listed here
    (restore_lib, "CheckpointPosition"),
    (restore_lib.CheckpointPosition, "gather_ops_or_named_saveables"),
    (restore_lib.CheckpointPosition, "has_non_trivial_reshard_callback"),
    (base, "OBJECT_GRAPH_PROTO_KEY"),
    (base, "VARIABLE_VALUE_KEY"),
    (base.Trackable, "_trackable_children"),
    (base.Trackable, "_gather_saveables_for_checkpoint"),
    (base.Trackable, "_serialize_to_tensors"),
    (trackable_utils, "escape_local_name"),
    (saveable_object, "SaveSpec"),
    (saveable_object_util, "SaveableCompatibilityConverter"),
    (saveable_object_util, "trackable_has_serialize_to_tensor"),
)
"""What this module relies on, for the test that says which of it a new TensorFlow lacks."""

OBJECT_GRAPH_KEY: str = base.OBJECT_GRAPH_PROTO_KEY
"""The key of the object graph, a string scalar that every object-based checkpoint holds."""


# ---------------------------------------------------------------------------------------- what a checkpoint consists of


@dataclass(frozen=True, slots=True)
class Serialized:
    """One walk over the object graph: what `tf.train.Checkpoint.write` would hand to its saver.

    `tensors`: for each object its values by checkpoint key; a value is a tensor, a variable, a *save spec* (see
    `is_deferred`) or a dict from slice specs to those. `savers`: the objects of each registered saver, by name.
    `graph`: the serialized TrackableObjectGraph.
    """

    tensors: tuple[tuple[Any, Mapping[str, Any]], ...]
    savers: Mapping[str, Mapping[str, Any]]
    graph: bytes


def serialize(checkpoint: Any) -> Serialized:
    """Walks all that `checkpoint` tracks (checkpoint/save_util.py), 45 to 150 µs a variable; runs no collectives."""
    for trackable in objects(checkpoint):
        if is_distributed(trackable):
            _answer_for_its_values(trackable)
    tensors, _, savers, proto = save_util.serialize_graph_view(_graph_view(checkpoint))
    unwrapped = tuple((_converted(trackable), keyed) for trackable, keyed in tensors.items())
    return Serialized(unwrapped, savers, proto.SerializeToString())


def objects(checkpoint: Any) -> list[Any]:
    """All objects that `checkpoint` tracks, the root first, slot variables left out."""
    found, _ = _graph_view(checkpoint).breadth_first_traversal()
    return list(found)


def asking_for_children(trackable: Any) -> Callable[[], Mapping[str, Any]]:
    """What asks `trackable` for the objects it depends on by name, 1 to 3 µs a call (trackable/base.py)."""
    ask: Callable[[], Mapping[str, Any]] = trackable._trackable_children  # noqa: SLF001 - TensorFlow's extension point
    return ask


def attached(checkpoint: Any) -> list[tuple[str, Any]]:
    """The root's dependencies that only `checkpoint` knows: its keyword arguments and its save counter."""
    return [(reference.name, reference.ref) for reference in _graph_view(checkpoint).attached_dependencies or ()]


def legacy_attributes(trackable: Any) -> frozenset[str] | None:
    """The names of what an object saves the old way; None where its class does not (checkpoint/save_util_v1.py)."""
    gather = type(trackable)._gather_saveables_for_checkpoint  # noqa: SLF001 - TensorFlow's own extension point
    if gather is base.Trackable._gather_saveables_for_checkpoint:  # noqa: SLF001 - the same
        return None
    return frozenset(trackable._gather_saveables_for_checkpoint())  # noqa: SLF001 - the same


def slots(optimizer: Any, variables: Iterable[Any]) -> Iterator[tuple[str, Any, Any]]:
    """(slot name, variable, slot variable) of an optimizer of the old kind (checkpoint/util.py asks it the same)."""
    named = list(variables)
    for slot in optimizer.get_slot_names():
        for variable in named:
            try:
                found = optimizer.get_slot(variable, slot)
            except (AttributeError, KeyError):
                continue
            if found is not None:
                yield slot, variable, found


def _answer_for_its_values(variable: Any) -> None:
    """Keeps a walk from aggregating `variable`, twice, only to ask the result for an attribute that it never has.

    TensorFlow asks each object whether it has this name (checkpoint/saveable_compat.py); a distributed variable passes
    questions that it cannot answer on to its value, and the value of one that aggregates on read takes a collective,
    which hangs where other workers do not walk at the same time.
    """
    if saveable_compat._LEGACY_SAVEABLE_NAME not in vars(variable):  # noqa: SLF001 - the name that is asked for
        setattr(variable, saveable_compat._LEGACY_SAVEABLE_NAME, None)  # noqa: SLF001 - the same


def _graph_view(checkpoint: Any) -> Any:
    return checkpoint._saver._graph_view  # noqa: SLF001 - checkpoint/checkpoint.py offers no public way to it


def _converted(trackable: Any) -> Any:
    """The object behind the wrapper that TensorFlow puts around those that save the old way."""
    if isinstance(trackable, saveable_object_util.SaveableCompatibilityConverter):
        return trackable.obj
    return trackable


# --------------------------------------------------------------------------------------------------- values to be saved


def serializes_itself(trackable: Any) -> bool:
    """Whether `values_of` gives the object's values (training/saving/saveable_object_util.py)."""
    return bool(saveable_object_util.trackable_has_serialize_to_tensor(trackable))


def values_of(trackable: Any) -> Mapping[str, Any]:
    """The object's values as of now by local name, in the order of the keys that `serialize` found."""
    found: Mapping[str, Any] = trackable._serialize_to_tensors()  # noqa: SLF001 - TensorFlow's own extension point
    return found


def key_ending(local_name: str) -> str:
    """How the checkpoint key of a value with this local name ends (trackable/trackable_utils.py)."""
    return str(trackable_utils.escape_local_name(local_name))


def is_deferred(value: Any) -> bool:
    """Whether `value` is a save spec whose tensor is computed only when it is asked for."""
    return isinstance(value, saveable_object.SaveSpec) and callable(value._tensor)  # noqa: SLF001 - no public way


def evaluate(value: Any) -> Any | None:
    """The tensor of a value that `serialize` found; None where an uninitialised variable has none."""
    if isinstance(value, saveable_object.SaveSpec):
        with tf.device(value.device):
            value = value.tensor
    return None if value is None else tf.convert_to_tensor(value)


# ------------------------------------------------------------------------------------------------------------ variables


def variable_behind(trackable: Any) -> Any | None:
    """The tf.Variable that an object is, or wraps as Keras 3 and tf_keras's AutoCastVariable do; None for others."""
    if _is_keras_variable(trackable):
        trackable = trackable.value
    if isinstance(trackable, tf.Variable) and hasattr(type(trackable), "true_dtype"):
        trackable = trackable._variable  # noqa: SLF001 - tf_keras/src/mixed_precision/autocast_variable.py
    return trackable if isinstance(trackable, tf.Variable) else None


def _is_keras_variable(trackable: Any) -> bool:
    keras = sys.modules.get("keras")  # where it was not imported, nothing here is of it
    return isinstance(trackable, getattr(keras, "Variable", ()))


def is_distributed(variable: Any) -> bool:
    """Whether a strategy keeps this variable on several replicas (distribute/values.py)."""
    return isinstance(variable, values.DistributedVariable)


def is_plain(variable: Any) -> bool:
    """Whether this is a resource variable that is saved as one whole tensor, in TensorFlow's own way."""
    resource = resource_variable_ops.BaseResourceVariable
    return (
        isinstance(variable, resource)
        and not isinstance(variable, values.DistributedVariable)
        and type(variable)._serialize_to_tensors is resource._serialize_to_tensors  # noqa: SLF001 - the very question
    )


_TOGETHER_MIN = 32


def disable_copy_on_read(handles: Sequence[Any]) -> None:
    """DisableCopyOnRead of each: 2 µs a variable in one function, called without tf.function's way in; 6 by itself."""
    if len(handles) < _TOGETHER_MIN:
        for handle in handles:
            tf.raw_ops.DisableCopyOnRead(resource=handle)
        return
    padded = [*handles, *[handles[-1]] * (-len(handles) % _TOGETHER_MIN)]
    # TensorFlow's other executor hands each operation to a pool of threads, which are busy training.
    attributes = ("executor_type", "SINGLE_THREADED_EXECUTOR", "config_proto", b"")
    execute.execute(_disabling(len(padded)).name, 0, padded, attributes, context.context())


@cache
def _disabling(count: int) -> Any:
    """A function that does it for `count` handles. It takes 0.5 ms a handle to make, so there are few sizes."""

    def disable(*handles: Any) -> None:
        for handle in handles:
            tf.raw_ops.DisableCopyOnRead(resource=handle)

    with tf.init_scope(), tf.device(None):  # each operation goes where its variable is
        signature = [tf.TensorSpec([], tf.resource)] * count
        return tf.function(disable, input_signature=signature, autograph=False).get_concrete_function()


def read_variables(handles: Sequence[Any], dtypes: Sequence[int]) -> list[Any]:
    """The values of variables of one device, as many calls of ReadVariableOp would give them
    (core/kernels/resource_variable_ops.cc, ReadVariablesOp).
    """
    attributes = ("N", len(handles), "dtypes", dtypes)
    values: list[Any] = execute.execute(b"_ReadVariablesOp", len(handles), list(handles), attributes, context.context())
    return values


# ------------------------------------------------------------------------------------------------------------ iterators


def local_iterators(iterator: Any) -> list[Any]:
    """What a DistributedIterator iterates over on this worker: one for each of its replicas, or one that feeds all
    (distribute/input_lib.py).
    """
    return [each._iterator for each in iterator._iterators]  # noqa: SLF001 - no public way


# ---------------------------------------------------------------------------------------------------- registered savers


def save_function(saver: str) -> Callable[..., Any]:
    """What the saver of this name saves by, `(trackables, file_prefix)` (saved_model/registration/registration.py)."""
    function: Callable[..., Any] = registration.get_save_function(saver)
    return function


# ------------------------------------------------------------------------------------------------------------ restoring

_tensorflows_restore_v2 = io_ops.restore_v2
_tensorflows_gather = restore_lib.CheckpointPosition.gather_ops_or_named_saveables
_tensorflows_restore_saveables = checkpoint_lib._CheckpointRestoreCoordinator.restore_saveables  # noqa: SLF001 - no public
_reading = threading.local()


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the restores of this thread read from. `assignable`: the variables found so far, which wait for values."""

    prefix: str
    read: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    assignable: list[_Assignable]


@dataclass(frozen=True, slots=True)
class _Assignable:
    key: str
    dtype: Any
    handles: tuple[Any, ...]


@contextmanager
def tensors_read_by(prefix: str, read: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> Iterator[None]:
    """Inside, in this thread, TensorFlow's eager restores from `prefix` ask `read` for whole tensors, with their dtypes
    by name; what it leaves out TensorFlow reads (checkpoint/functional_saver.py, _single_shard_restore).

    Variables whose restore is but an assignment are not restored by TensorFlow one by one, which takes it 0.3 ms each:
    it only finds them (checkpoint/restore.py, CheckpointPosition), and they are assigned together.
    """
    io_ops.restore_v2 = _restore_v2
    restore_lib.CheckpointPosition.gather_ops_or_named_saveables = _gather
    checkpoint_lib._CheckpointRestoreCoordinator.restore_saveables = _restore_saveables  # noqa: SLF001 - no public name
    _reading.source = _Source(prefix, read, [])
    try:
        yield
    finally:
        del _reading.source


def _source_of(prefix: str) -> _Source | None:
    source: _Source | None = getattr(_reading, "source", None)
    return source if source is not None and source.prefix == prefix and tf.executing_eagerly() else None


def _restore_v2(prefix: Any, tensor_names: Any, shape_and_slices: Any, dtypes: Any, name: Any = None) -> Any:
    if not hasattr(_reading, "source") or not tf.executing_eagerly() or any(shape_and_slices):
        return _tensorflows_restore_v2(prefix, tensor_names, shape_and_slices, dtypes, name)
    source = _source_of(tf.convert_to_tensor(prefix).numpy().decode())
    if source is None:
        return _tensorflows_restore_v2(prefix, tensor_names, shape_and_slices, dtypes, name)
    wanted = dict(zip(tensor_names, dtypes, strict=True))
    given = dict(source.read(wanted))
    left = [each for each in wanted if each not in given]
    if left:
        read = _tensorflows_restore_v2(prefix, left, [""] * len(left), [wanted[each] for each in left], name)
        given.update(zip(left, read, strict=True))
    return [given[each] for each in tensor_names]


def _gather(position: Any) -> Any:
    source = _source_of(position.checkpoint.save_path_string)
    assignable = None if source is None else _assignable(position)
    if source is None or assignable is None:
        return _tensorflows_gather(position)
    source.assignable.append(assignable)
    return [], {}, [], {}


def _restore_saveables(coordinator: Any, *arguments: Any, **named: Any) -> Any:
    source = _source_of(coordinator.save_path_string)
    if source is not None and source.assignable:
        items = source.assignable.copy()
        source.assignable.clear()
        with tf.device("CPU:0"):
            keys, dtypes = [item.key for item in items], [item.dtype for item in items]
            tensors = _restore_v2(coordinator.save_path_tensor, keys, [""] * len(keys), dtypes)
        pairs = [(handle, tensor) for item, tensor in zip(items, tensors, strict=True) for handle in item.handles]
        for device, here in groupby(pairs, lambda pair: str(pair[0].device)):
            with tf.device(device):
                for handle, tensor in here:
                    tf.raw_ops.AssignVariableOp(resource=handle, value=tensor)
    return _tensorflows_restore_saveables(coordinator, *arguments, **named)


def _assignable(position: Any) -> _Assignable | None:
    """None for what is no variable, or not simply set to a value of its own shape and dtype, in each of its replicas;
    TensorFlow restores that, or says why it cannot.
    """
    proto, variable = position.object_proto, variable_behind(position.trackable)
    if variable is None or len(proto.attributes) != 1 or proto.attributes[0].name != base.VARIABLE_VALUE_KEY:
        return None
    if proto.HasField("registered_saver") or registration.get_registered_saver_name(position.trackable) is not None:
        return None
    key, found = proto.attributes[0].checkpoint_key, position.checkpoint
    is_mirrored = type(variable) is values.MirroredVariable
    components = variable.values if is_mirrored else (variable,)
    fits = (
        found.dtype_map.get(key) == variable.dtype
        and variable.shape.is_fully_defined()
        and found.shape_map[key] == variable.shape.as_list()
    )
    if not fits or not all(map(is_plain, components)) or position.has_non_trivial_reshard_callback():
        return None
    return _Assignable(key, variable.dtype, tuple(component.handle for component in components))


# ---------------------------------------------------------------------------------------------------------- the cluster


def is_default_strategy(strategy: Any) -> bool:
    """Whether this is what `tf.distribute.get_strategy()` gives outside of scopes (distribute/distribute_lib.py)."""
    return isinstance(strategy, distribute_lib._DefaultDistributionStrategy)  # noqa: SLF001 - no public name


def index_in_cluster(cluster_spec: Any, task_type: str, task_id: int) -> int:
    """The task's index with the chief first, then the workers by number (distribute/multi_worker_util.py)."""
    return int(multi_worker_util.id_in_cluster(cluster_spec, task_type, task_id))


def cluster_addresses(cluster_spec: Any) -> tuple[str, ...]:
    """The addresses of the chief and the workers, in the order of `index_in_cluster`."""
    jobs = multi_worker_util.normalize_cluster_spec(cluster_spec).as_dict()
    return (*jobs.get("chief", ()), *jobs.get("worker", ()))


def set_config_key_value(key: str, value: str) -> None:
    """Puts into the key-value store of TensorFlow's coordination service (eager/context.py). A key is set once."""
    context.context().set_config_key_value(key, value)


def get_config_key_value(key: str, timeout_ms: int) -> str:
    """Waits for a key of the coordination service; raises tf.errors.DeadlineExceededError."""
    return str(context.context().get_config_key_value(key, timeout_ms))


# ---------------------------------------------------------------------------- what tf.train.CheckpointManager goes by


def now() -> float:
    """The time by which `tf.train.CheckpointManager` dates checkpoints, in seconds since the epoch; whoever replaces
    that module's clock replaces it here too (checkpoint/checkpoint_management.py).
    """
    return float(checkpoint_management.time.time())
