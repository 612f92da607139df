"""What only one worker has: its tf.data iterators, its random generators, its counters.

It is captured as the model is, by reference and on the training thread, but for what gives its values itself: an
iterator is serialized by TensorFlow there and then, 8 µs for each element that its shuffle and prefetch buffers hold,
so that the save holds the very position that belongs to its step (docs/decisions/0015-worker-state.md). It becomes a
TensorFlow checkpoint of its own.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from distckpt.bundle.payload import Payload
from distckpt.errors import ConfigurationError, UnsupportedState
from distckpt.model import CHIEF, Piece, Place
from distckpt.tensors import internals
from distckpt.tensors.snapshot import Snapshot
from distckpt.tensors.source import Source


class WorkerState:
    """Captures what `checkpoint` (a tf.train.Checkpoint) tracks, on the worker at `place`; for the training thread.

    Raises ConfigurationError where it is no tf.train.Checkpoint.
    """

    def __init__(self, checkpoint: Any, place: Place) -> None:
        if not isinstance(checkpoint, tf.train.Checkpoint):
            raise ConfigurationError(
                "worker_state takes a tf.train.Checkpoint of what only this worker has, as "
                f"tf.train.Checkpoint(iterator=..., rng=...), not a {type(checkpoint).__name__}"
            )
        if not tf.executing_eagerly():
            raise ConfigurationError("worker_state is saved eagerly, not in a tf.Graph or a tf.compat.v1 session")
        self.checkpoint = checkpoint
        self.place = place
        # Each worker writes all of its own state, so to itself it is the chief.
        self._source = Source(checkpoint, Place(CHIEF, place.world_size))
        self._last_bytes = 0

    def prepare(self) -> None:
        """Looks at what is tracked. Raises UnsupportedState for what cannot be saved."""
        assert self.checkpoint.save_counter is not None, "made by the first look at it; assert_consumed() asks for it"
        shared = self._source.layout().collective
        if shared:
            raise UnsupportedState(
                f"worker_state: {shared[0]} is aggregated over all workers when it is read, so it is not one worker's: "
                "put it into the checkpoint that all share, or make it outside of strategy.scope()"
            )

    def capture(self) -> StateSnapshot:
        """The state as of now. Raises UnsupportedState for what TensorFlow cannot save, and for what takes all workers
        to read.
        """
        try:
            self.prepare()
            return StateSnapshot(self._source.capture(), self)
        except tf.errors.OpError as error:
            raise UnsupportedState(f"worker_state: TensorFlow cannot save {self._culprit()}: {error}") from error

    def _culprit(self) -> str:
        """What it is that cannot be saved, as well as can be told."""
        for trackable in internals.objects(self.checkpoint):
            for name, child in internals.asking_for_children(trackable)().items():
                try:
                    if internals.serializes_itself(child):
                        internals.values_of(child)
                except tf.errors.OpError:
                    return f"{name!r}, a {type(child).__name__}"
        return "it"

    def estimate(self, snapshot: Snapshot) -> int:
        """How many bytes it will take: as many as the last one, where an iterator's size is known only when written."""
        return max(snapshot.own_bytes + sum(spec.size_bytes for spec in snapshot.layout.replicated), self._last_bytes)

    def wrote(self, size_bytes: int) -> None:
        self._last_bytes = size_bytes


class StateSnapshot:
    """One worker's state at one step; read on any thread, released when it is written.

    `own_bytes` is its size; an estimate where elements are of variable length.
    """

    def __init__(self, snapshot: Snapshot, state: WorkerState) -> None:
        self.own_bytes = state.estimate(snapshot)
        self._snapshot = snapshot
        self._state = state

    def payloads(self) -> list[Payload]:
        """All of it; see Snapshot.payloads."""
        pieces = [Piece(spec.name, spec.size_bytes) for spec in self._snapshot.layout.replicated]
        found = self._snapshot.payloads(pieces, own=True)
        self._state.wrote(sum(payload.data.nbytes for payload in found))
        return found

    def release(self) -> None:
        """Lets go of what is held. Allowed twice."""
        self._snapshot.release()


def trackable(iterator: Any) -> Any:
    """What `tf.train.Checkpoint` can track in place of the iterator of a distributed dataset, which it refuses.

        tf.train.Checkpoint(iterator=distckpt.trackable(iterator))

    It stands for the same position: restoring it sets `iterator` back. A `tf.data.Iterator` is returned as it is.
    TensorFlow can save a `tf.distribute.DistributedIterator` only under MirroredStrategy, made by
    `distribute_datasets_from_function` with `tf.distribute.InputOptions(experimental_fetch_to_device=False,
    experimental_replication_mode=tf.distribute.InputReplicationMode.PER_REPLICA)`. Raises UnsupportedState for any
    other: it reads ahead on the devices, and nobody can say where the training is.
    """
    if isinstance(iterator, tf.data.Iterator):
        return iterator
    if not isinstance(iterator, tf.distribute.DistributedIterator):
        raise UnsupportedState(f"a {type(iterator).__name__} is no iterator of tf.data, whose position could be saved")
    local = internals.local_iterators(iterator)
    if all(isinstance(each, tf.data.Iterator) for each in local):
        return local
    raise UnsupportedState(
        "TensorFlow cannot save the position of this DistributedIterator, which reads ahead on the devices. Take "
        "one over a tf.data.Dataset of this worker's own: iter(make(tf.distribute.InputContext(workers, worker, "
        "replicas))), with the function that distribute_datasets_from_function takes. Under MirroredStrategy that "
        "one's iterator can be saved, with tf.distribute.InputOptions(experimental_fetch_to_device=False, "
        "experimental_replication_mode=tf.distribute.InputReplicationMode.PER_REPLICA)"
    )
