"""Host bytes back into TensorFlow's objects: TensorFlow's own restore, which asks for tensors by name.

While it restores it is given what was read to verify it, or what `bundle/` reads; what that cannot give (strings,
slices that are no rows) and what is asked for later, TensorFlow reads itself. Its status object is TensorFlow's too:
variables that are made later (a Keras layer that is not built yet, an optimizer's slots) get their values when they are
made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from distckpt.bundle.loader import Loader
from distckpt.errors import CorruptCheckpoint, ObjectMissing
from distckpt.tensors import collection, internals
from distckpt.tensors.host import can_share, tensors_of

_ABSENT = "No such file or directory"


def restore(checkpoint: Any, path: str, loader: Loader) -> Any:
    """Restores `checkpoint` (a tf.train.Checkpoint) from the prefix `path`; returns TensorFlow's load status.

    `loader` is of the same checkpoint; what it has verified is not read again.

    Raises ObjectMissing where there is no such checkpoint or a file of it is missing, and CorruptCheckpoint where its
    bytes are not what was written; some variables may have their new values by then. ValueError, TensorFlow's own,
    says that a tensor does not fit the variable.

    A variable that aggregates on read by SUM is restored to sum / replicas on each replica, as in TensorFlow: the sum
    is the same again only where that division is exact (docs/decisions/0004-capture.md).
    """
    if not tf.executing_eagerly():
        return checkpoint.restore(path)  # operations of a graph, for its session to run
    try:
        with collection.deferred(), internals.tensors_read_by(path, lambda wanted: _load(loader, wanted)):
            return checkpoint.restore(path)
    except (tf.errors.OpError, IndexError) as error:
        if isinstance(error, tf.errors.NotFoundError) or _ABSENT in str(error):
            raise ObjectMissing(f"{path}: {error}", path) from error
        if _is_corruption(error):
            raise CorruptCheckpoint(path, str(error)) from error
        raise


def _load(loader: Loader, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of `wanted` (their dtypes by name) that the loader can give; TensorFlow explains any mismatch."""
    payloads = loader.take(name for name, dtype in wanted.items() if can_share(dtype))
    return tensors_of(each for each in payloads if each.dtype == wanted[each.name].as_datatype_enum)


def _is_corruption(error: BaseException) -> bool:
    """The object graph comes through another reader, whose errors are bare OpErrors and, where a file is too short,
    IndexErrors (training/py_checkpoint_reader.py).
    """
    known = (tf.errors.DataLossError, tf.errors.OutOfRangeError, IndexError)
    return isinstance(error, known) or type(error) is tf.errors.OpError
