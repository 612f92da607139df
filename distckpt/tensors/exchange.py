"""A checkpoint of which each worker has read its part alone: the parts are exchanged through the strategy.

Collectives on the training thread, the same on all workers in the same order: a worker that dies meanwhile is noticed
as in a training step, by TensorFlow's error. Bits travel as integers, so that all arrive as they were.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from distckpt.bundle.loader import Loader
from distckpt.model import Place
from distckpt.tensors.host import host_bytes

ROUND_BYTES = 32 << 20
"""Of all workers together; so much memory, a few times over, is needed besides the checkpoint's tensors."""
_WORD_BYTES = 4


def exchange(strategy: Any, place: Place, loader: Loader) -> None:
    """Fills `loader`, in which each worker has verified its part of the bytes, with the parts of all others.

    Left to TensorFlow is what cannot be kept: strings, variants, slices that are no rows. Raises tf.errors.OpError
    where another worker is gone.
    """
    parts = loader.parts(place.world_size)
    replicas = strategy.num_replicas_in_sync // place.world_size  # of this worker; each gives its part of the part
    each = ROUND_BYTES // strategy.num_replicas_in_sync // _WORD_BYTES * _WORD_BYTES
    own = np.zeros(each * replicas, np.uint8)
    for start in range(0, max(part.size_bytes for part in parts), own.size):
        parts[place.worker].read(start, own)
        gathered = _gather(strategy, own.view(np.int32).reshape(replicas, -1)).reshape(place.world_size, -1)
        for worker, part in enumerate(parts):
            if worker != place.worker:
                part.write(start, gathered[worker])
    loader.keep_all(place.world_size)


def _gather(strategy: Any, words: NDArray[np.int32]) -> NDArray[np.uint8]:
    """The bytes of all workers, in their order; `words` has a row for each replica of this one."""

    def of_replica(context: Any) -> Any:
        return tf.constant(words[context.replica_id_in_sync_group % len(words)])

    values = strategy.experimental_distribute_values_from_function(of_replica)
    return host_bytes(strategy.gather(values, axis=0))
