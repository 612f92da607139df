"""What only one worker has, on its way into staging, and which of the saved ones a worker takes back."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence

from distckpt.bundle.index import encode_index
from distckpt.bundle.payload import Payload
from distckpt.bundle.writer import write_share
from distckpt.errors import ConfigurationError
from distckpt.model import Manifest, Place, StagedState, WorkerStates
from distckpt.options import ChangedWorld
from distckpt.protocol.staged import STATE, STATE_INDEX
from distckpt.runtime.staging import discard_all
from distckpt.storage.interface import Storage
from distckpt.storage.sealing import sealed

log = logging.getLogger("distckpt")


def stage_state(
    payloads: Sequence[Payload], storage: Storage, generation: int, name: str, world_size: int, threads: int
) -> StagedState:
    """Writes a checkpoint of its own: data file and index, durable in staging. `name` is new in this generation.

    Raises StorageError; then nothing of it is left.
    """
    data_handle, (entries, size_bytes) = sealed(
        storage.stage(generation, f"{name}{STATE}"), lambda file: write_share(payloads, file, threads=threads)
    )
    index = encode_index([entries])
    try:
        index_handle, _ = sealed(
            storage.stage(generation, f"{name}{STATE_INDEX}"), lambda file: file.write_at(0, index)
        )
    except BaseException:
        discard_all(storage, [data_handle])
        raise
    sha256 = hashlib.sha256(index).hexdigest()
    return StagedState(world_size, data_handle, size_bytes, index_handle, len(index), sha256)


def state_to_restore(
    checkpoint: str, manifest: Manifest | None, place: Place, changed_world: ChangedWorld
) -> str | None:
    """The prefix of the saved state that the worker at `place` takes back with `checkpoint`; None: it keeps its own.

    `manifest` is that checkpoint's, if it has one; `changed_world`: see options.Options. Says in the log whatever else
    than its own old state it takes. Raises ConfigurationError, on all workers alike, where the number of workers is
    another and nothing was chosen.
    """
    saved = None if manifest is None else manifest.states
    if saved is None:
        log.warning("%s holds no worker_state: worker %d keeps the one it has", checkpoint, place.worker)
        return None
    source = place.worker
    if saved.world_size != place.world_size:
        _check_choice(checkpoint, saved, place, changed_world)
        if changed_world == "drop":
            _tell(checkpoint, saved, place, "does not take any of it, and keeps the one it has")
            return None
        source %= saved.world_size
        _tell(checkpoint, saved, place, f"takes that of worker {source}")
    for each in saved.files:
        if each.worker == source:
            return each.name
    log.error(
        "%s lacks the worker_state of worker %d: worker %d keeps the one it has", checkpoint, source, place.worker
    )
    return None


def _check_choice(checkpoint: str, saved: WorkerStates, place: Place, changed_world: ChangedWorld) -> None:
    if changed_world == "error":
        raise ConfigurationError(
            f"{checkpoint} holds the worker_state of {saved.world_size} workers, and this job has {place.world_size}. "
            'Options(changed_world="drop"): none is restored. Options(changed_world="spread"): worker i takes that of '
            f"worker i modulo {saved.world_size}. Nothing was restored"
        )


def _tell(checkpoint: str, saved: WorkerStates, place: Place, what: str) -> None:
    log.warning(
        "%s holds the worker_state of %d workers, and this job has %d: worker %d %s",
        checkpoint,
        saved.world_size,
        place.world_size,
        place.worker,
        what,
    )
