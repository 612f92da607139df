"""TensorBoard scalars, through a `tf.summary` writer.

`tf.summary.scalar` needs the package `tensorboard`, which TensorFlow does not bring. So its event is written down here:
a float32 tensor, marked for the plugin "scalars" (tensorboard/plugins/scalar/metadata.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

_DATA_CLASS_SCALAR = 1  # tensorboard's, in summary.proto


def scalar_writer(target: Any) -> Callable[[int, Mapping[str, float]], None] | None:
    """What writes scalars of a step, from any thread. `target`: a writer of `tf.summary.create_file_writer`, or a
    directory for one; None: nothing is written.
    """
    if target is None:
        return None
    writer = tf.summary.create_file_writer(os.fspath(target)) if isinstance(target, (str, os.PathLike)) else target
    metadata = tf.compat.v1.SummaryMetadata(data_class=_DATA_CLASS_SCALAR)
    metadata.plugin_data.plugin_name = "scalars"

    def write(step: int, values: Mapping[str, float]) -> None:
        with writer.as_default(step=step):
            for name, value in values.items():
                tf.summary.write(name, tf.constant(value, tf.float32), metadata=metadata)
        writer.flush()

    return write
