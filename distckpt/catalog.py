"""`Catalog`: what a directory holds, for people and tools. Without TensorFlow and apart from the job; only `lease`
writes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from distckpt.bundle.index import decode_index
from distckpt.bundle.index_file import read_index_file
from distckpt.bundle.names import index_file
from distckpt.bundle.statefile import parse_state
from distckpt.bundle.verify import MISSING, Fault, verify
from distckpt.commit.adoption import find_adoptable
from distckpt.commit.manifest import BYTES_MAX as MANIFEST_BYTES_MAX
from distckpt.commit.manifest import decode_manifest, manifest_file
from distckpt.commit.publication import is_visible
from distckpt.commit.statefile import read_state
from distckpt.commit.verification import read_manifest, verify_states
from distckpt.errors import ConfigurationError, ObjectMissing
from distckpt.journal.holding import Holder
from distckpt.journal.reading import load
from distckpt.journal.state import Quarantined
from distckpt.model import Checkpoint, Entry, Manifest
from distckpt.protocol.retention import KeepBest
from distckpt.storage.posix import PosixStorage

_VISIBLE_S = 5.0
_LOOK_S = 0.02


class Catalog:
    """The checkpoints in `directory`, read anew at each question: while a job runs, the answers change.

    A directory that only plain TensorFlow has saved into is read by its `checkpoint` file.
    All methods raise CorruptData or StorageError where the directory cannot be read, and ConfigurationError (also a
    ValueError) for a step that is not there; the constructor raises it for a directory that does not exist.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        if not self.directory.is_dir():
            what = "not a directory" if self.directory.exists() else "no such directory"
            raise ConfigurationError(f"{self.directory}: {what}")
        self._storage = PosixStorage(directory)

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """Those that exist, in the order of their commits."""
        state = load(self._storage).state
        if state.slot:
            return state.live
        return self._tensorflows()

    @property
    def quarantined(self) -> tuple[Quarantined, ...]:
        """Checkpoints that were found corrupt at a restore and set aside, with the reason; oldest first."""
        return load(self._storage).state.quarantined

    @property
    def latest(self) -> Checkpoint | None:
        """The newest commit, None if there is none."""
        checkpoints = self.checkpoints
        return checkpoints[-1] if checkpoints else None

    def checkpoint(self, step: int) -> Checkpoint:
        """The checkpoint of a step."""
        checkpoints = self.checkpoints
        for each in reversed(checkpoints):
            if each.step == step:
                return each
        there = ", ".join(str(each.step) for each in checkpoints) or "none"
        raise ConfigurationError(f"{self.directory}: no checkpoint of step {step}; there are: {there}")

    def best(self, metric: str, mode: Literal["min", "max"]) -> Checkpoint | None:
        """The one with the least or greatest `metric`, of equals the older; None where none has that metric.

        One whose metric is NaN does not count. Raises ConfigurationError for another `mode`.
        """
        if mode not in ("min", "max"):
            raise ConfigurationError(f'mode: "min" or "max", not {mode!r}')
        checkpoints = self.checkpoints
        names = KeepBest(metric, mode).kept(checkpoints)
        return next((each for each in checkpoints if each.name in names), None)

    @contextmanager
    def lease(self, step: int) -> Iterator[str]:
        """`with catalog.lease(step) as path:` - while the body runs no retention removes the checkpoint at `path`.

        `path` is what `tf.train.Checkpoint.restore` and `tf.train.load_checkpoint` take. A lease is a small file below
        the directory, so this writes there. One whose holder dies ends by itself.
        Raises ConfigurationError also where only plain TensorFlow has saved: nothing there would obey a lease.
        """
        with Holder(self._storage) as holder:  # first the lease, then the look: see docs/decisions/0006-leases.md
            if not load(self._storage).state.slot:
                raise ConfigurationError(
                    f"{self.directory}: written by TensorFlow without distckpt: it keeps no leases"
                )
            checkpoint = self.checkpoint(step)
            holder.narrow(checkpoint)
            self._wait_until_visible(checkpoint)
            yield str(self.directory / checkpoint.name)

    def manifest(self, step: int) -> Manifest | None:
        """The manifest; None for a checkpoint that plain TensorFlow wrote."""
        checkpoint = self.checkpoint(step)
        if checkpoint.adopted:
            return None
        key = manifest_file(checkpoint.name)
        return decode_manifest(self._storage.read_at(key, 0, MANIFEST_BYTES_MAX + 1), key)

    def entries(self, step: int) -> tuple[tuple[int, Entry], ...]:
        """Every tensor, or slice of one, with the number of the data file that it stands in; in their order there."""
        key = index_file(self.checkpoint(step).name)
        index = decode_index(read_index_file(self._storage, key), key)
        return tuple((shard, entry) for shard in sorted(index.shards) for entry in index.shards[shard])

    def verify(
        self, step: int | Checkpoint, *, threads: int = 2, on_read: Callable[[int], object] = lambda _: None
    ) -> list[Fault]:
        """What is wrong with a checkpoint, given itself or its step, empty if nothing is. Reads every byte of it.

        `threads` read at once; `on_read` hears from each of them how many bytes it has read.
        The chain is followed from the journal: its sha256 of the manifest, the manifest's of the index (and of that of
        each worker's own state), the index's checksum of every tensor; and the journal's sizes of all files. Does not
        raise for corrupt content.
        """
        checkpoint = step if isinstance(step, Checkpoint) else self.checkpoint(step)
        storage = _Counted(self._storage.directory, on_read)
        manifest, chain = read_manifest(storage, checkpoint.name, checkpoint.manifest_sha256)
        faults = list(dict.fromkeys([*self._size_faults(checkpoint), *chain]))
        known = {fault.file for fault in faults}
        found = verify(storage, checkpoint.name, threads=threads) + verify_states(storage, manifest, threads=threads)
        return faults + [fault for fault in found if fault.tensor or fault.file not in known]

    def _wait_until_visible(self, checkpoint: Checkpoint) -> None:
        """A commit stands in the journal a moment before its files have their names."""
        deadline = time.monotonic() + _VISIBLE_S
        while not is_visible(self._storage, checkpoint):
            if time.monotonic() > deadline:
                raise ObjectMissing(
                    f"{checkpoint.name} is committed, and its files are not all there: the next start of the job puts "
                    "them there, or sets it aside",
                    checkpoint.name,
                )
            time.sleep(_LOOK_S)

    def _tensorflows(self) -> tuple[Checkpoint, ...]:
        with suppress(ObjectMissing):
            # Raises CorruptData where it is garbage: find_adoptable would set it aside, and a Catalog writes nothing.
            parse_state(read_state(self._storage))
        return find_adoptable(self._storage, str(self._storage.directory), frozenset(), now=0.0).checkpoints

    def _size_faults(self, checkpoint: Checkpoint) -> Iterator[Fault]:
        for file in checkpoint.files:
            try:
                size = self._storage.size(file.name)
            except ObjectMissing:
                yield Fault(file.name, "", MISSING)
                continue
            if size != file.size_bytes:
                yield Fault(file.name, "", f"it has {size} bytes; {file.size_bytes} were committed")


class _Counted(PosixStorage):
    """Tells `on_read` of the bytes that were read."""

    def __init__(self, directory: Path, on_read: Callable[[int], object]) -> None:
        super().__init__(directory)
        self._on_read = on_read

    def read_at(self, key: str, offset: int, length: int) -> bytes:
        data = super().read_at(key, offset, length)
        self._on_read(len(data))
        return data
