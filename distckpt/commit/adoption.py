"""What plain TensorFlow wrote into the directory before distckpt came, or in between: found, and taken over as it is.

TensorFlow ignores a state file that it cannot parse and trains from scratch (tensorflow#35148). Here the bundles that
stand in the directory are adopted instead, loudly, and the unreadable file is kept.
"""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass
from pathlib import PurePath

from distckpt.bundle.index import decode_index
from distckpt.bundle.index_file import read_index_file
from distckpt.bundle.names import data_file, index_file, is_state_name
from distckpt.bundle.statefile import CheckpointState, parse_state
from distckpt.commit.statefile import read_state
from distckpt.errors import CorruptData, InvalidName, ObjectMissing
from distckpt.model import Checkpoint, FileRecord
from distckpt.storage.interface import Storage

log = logging.getLogger("distckpt.commit")


@dataclass(frozen=True, slots=True)
class Found:
    """`checkpoints`, the latest last, are not in the journal.

    `listed` are all names in the state file, the latest last, and `last_preserved` is what it says (0 where it says
    nothing, as in TensorFlow; None: there is no state file, or it cannot be read).
    """

    checkpoints: tuple[Checkpoint, ...] = ()
    listed: tuple[str, ...] = ()
    last_preserved: float | None = None


def find_adoptable(storage: Storage, directory: str, known: frozenset[str], now: float) -> Found:
    """Looks for checkpoints of others. `known`: names that the journal has or had; `now`: seconds since the epoch."""
    try:
        data = read_state(storage)
    except ObjectMissing:
        return Found()
    try:
        state = parse_state(data)
    except CorruptData as error:
        return _found_by_scan(storage, data, error, known, now)
    return _found_by_state(storage, directory, state, known)


def _found_by_state(storage: Storage, directory: str, state: CheckpointState, known: frozenset[str]) -> Found:
    paths, last_preserved = state.all_model_checkpoint_paths, _time(state.last_preserved_timestamp or 0.0)
    times = [_time(each) for each in state.all_model_checkpoint_timestamps] or [last_preserved] * len(paths)
    stamps = dict(zip(paths, times, strict=True))
    # Last comes what restores first, and it may stand alone: by hand, or by tf.train.Checkpoint.save, which lists none.
    stamps[state.model_checkpoint_path] = stamps.pop(state.model_checkpoint_path, last_preserved)
    found, listed = [], []
    for path, timestamp in stamps.items():
        name = _below(directory, path)
        if name is None:
            log.warning("the state file names %s, which is outside of %s: it is left alone", path, directory)
            continue
        listed.append(name)
        if name not in known and (checkpoint := _inspect(storage, name, timestamp)):
            found.append(checkpoint)
    return Found(tuple(found), tuple(listed), last_preserved)


def _found_by_scan(storage: Storage, data: bytes, error: CorruptData, known: frozenset[str], now: float) -> Found:
    storage.put(".distckpt/quarantine/checkpoint", data)
    suffix = ".index"
    names = [key.removesuffix(suffix) for key in storage.keys("") if key.endswith(suffix) and "/" not in key]
    others = [name for name in names if name not in known and not is_state_name(name)]
    found = [checkpoint for name in others if (checkpoint := _inspect(storage, name, now))]
    found.sort(key=lambda checkpoint: (checkpoint.step, checkpoint.name))
    log.error(
        "the state file cannot be read (%s); copied to .distckpt/quarantine/checkpoint. Checkpoints beside it: %s",
        error,
        ", ".join(checkpoint.name for checkpoint in found) or "none that the journal does not know",
    )
    return Found(tuple(found))


def _time(timestamp: float) -> float:
    """What is no time counts as none: the journal could not hold it."""
    return timestamp if math.isfinite(timestamp) else 0.0


def _below(directory: str, path: str) -> str | None:
    """`path` relative to `directory`, None if it is elsewhere."""
    pure = PurePath(directory) / path
    if ".." in pure.parts or not pure.is_relative_to(directory):
        return None
    return pure.relative_to(directory).as_posix()


def _inspect(storage: Storage, name: str, timestamp: float) -> Checkpoint | None:
    """The checkpoint `name` as it stands, None (and a warning) where its index or a data file is missing."""
    key = index_file(name)
    try:
        shards = decode_index(read_index_file(storage, key), key).num_shards
        keys = [data_file(name, shard, shards) for shard in range(shards)] + [key]
        files = tuple(FileRecord(file, storage.size(file)) for file in keys)
    except (CorruptData, InvalidName, ObjectMissing) as error:
        log.warning("%s is named in the state file, or stands beside it, and cannot be used: %s", name, error)
        return None
    number = re.search(r"-(\d{1,18})$", name)
    return Checkpoint(name, int(number[1]) if number else 0, timestamp, 0, files)
