"""Host bytes back into TensorFlow's objects: TensorFlow's own restore, which reads whatever distckpt commits.

Its status object is TensorFlow's too: variables that are made later (a Keras layer that is not built yet, an
optimizer's slots) get their values when they are made.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from distckpt.errors import CorruptCheckpoint, ObjectMissing


def restore(checkpoint: Any, path: str) -> Any:
    """Restores `checkpoint` (a tf.train.Checkpoint) from the prefix `path`; returns TensorFlow's load status.

    Raises ObjectMissing where there is no such checkpoint or a file of it is missing, and CorruptCheckpoint where its
    bytes are not what was written; some variables may have their new values by then. ValueError, TensorFlow's own,
    says that a tensor does not fit the variable.

    A variable that aggregates on read by SUM is restored to sum / replicas on each replica, as in TensorFlow: the sum
    is the same again only where that division is exact (docs/decisions/0004-capture.md).
    """
    try:
        return checkpoint.restore(path)
    except tf.errors.NotFoundError as error:
        raise ObjectMissing(f"{path}: {error.message}", path) from error
    except (tf.errors.DataLossError, tf.errors.OutOfRangeError, IndexError) as error:
        # The reader of the object graph says IndexError for OutOfRange: a file that is too short.
        raise CorruptCheckpoint(path, str(error)) from error
