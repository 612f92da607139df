"""TensorFlow's recipe for workers other than the chief: a `CheckpointManager` on a temporary directory of their own.

Under MultiWorkerMirroredStrategy every worker must call TensorFlow's `save`, so all but the chief save whole copies
into a directory `workertemp_N` and throw it away: TensorFlow's tutorial does, `PreemptionCheckpointHandler` and
tf_keras's `BackupAndRestore` do. Here such a manager is a part of the chief's. What it writes is its share of the
chief's checkpoint, its paths are those in the chief's directory, and its own directory exists and stays empty.
"""

from __future__ import annotations

import re
import weakref
from pathlib import Path
from typing import Generic, TypeVar

from distckpt.model import Place

_TEMPORARY = re.compile(r"workertemp_\d+")

Manager = TypeVar("Manager")


def shared_directory(directory: str, place: Place) -> str:
    """The chief's directory, where `directory` is a worker's temporary one by the recipe; any other as it is.

    The recipe puts `workertemp_N` before the last part of the chief's path, or behind it.
    """
    parts = Path(directory).parts
    kept = [part for part in parts if not _TEMPORARY.fullmatch(part)]
    return directory if place.is_chief or len(kept) == len(parts) else str(Path(*kept))


class Readers(Generic[Manager]):
    """The managers of this process on the chief's own directories.

    Where a program of the recipe makes two managers of one `tf.train.Checkpoint`, one on the chief's directory to read
    and a temporary one to write, the chief makes one: so these two must be one as well.
    """

    def __init__(self) -> None:
        self._made: weakref.WeakKeyDictionary[Manager, tuple[int, Path]] = weakref.WeakKeyDictionary()

    def add(self, manager: Manager, checkpoint: object, directory: str) -> None:
        self._made[manager] = (id(checkpoint), Path(directory).resolve())

    def find(self, checkpoint: object, directory: str) -> Manager | None:
        """The newest that still lives, of the very same checkpoint, on `directory` or below it."""
        root = Path(directory).resolve()
        for manager, (whose, where) in reversed(list(self._made.items())):
            if whose == id(checkpoint) and where.is_relative_to(root):
                return manager
        return None
