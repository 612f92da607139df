"""TensorFlow's state file `checkpoint`: written from the journal after each commit, read to adopt what TensorFlow
wrote.
"""

from __future__ import annotations

from collections.abc import Sequence

from distckpt.bundle.statefile import STATE_FILE, CheckpointState, format_state
from distckpt.errors import CorruptData
from distckpt.model import Checkpoint
from distckpt.storage.interface import Storage

BYTES_MAX = 64 << 20
"""That of some hundred thousand checkpoints."""


def read_state(storage: Storage) -> bytes:
    """The state file's content. Raises ObjectMissing; CorruptData where it is too large to be one."""
    size = storage.size(STATE_FILE)
    if size > BYTES_MAX:
        raise CorruptData(STATE_FILE, f"it has {size} bytes, and at most {BYTES_MAX} are read: move it away")
    return storage.read(STATE_FILE)


def write_state(storage: Storage, live: Sequence[Checkpoint], last_preserved: float) -> None:
    """Rewrites the state file with `live`, oldest first; the last is the latest. Removes it where there is none.

    As in TensorFlow the preserved ones are not listed. If the latest is one, it must be: with a time by which
    TensorFlow, too, takes it for preserved.
    """
    if not live:
        storage.delete(STATE_FILE)
        return
    listed = [(each.name, each.timestamp) for each in live if not each.preserved]
    latest = live[-1]
    if latest.preserved:
        listed.append((latest.name, min(latest.timestamp, last_preserved)))
    state = CheckpointState(
        model_checkpoint_path=latest.name,
        all_model_checkpoint_paths=tuple(name for name, _ in listed),
        all_model_checkpoint_timestamps=tuple(timestamp for _, timestamp in listed),
        last_preserved_timestamp=last_preserved,
    )
    storage.put(STATE_FILE, format_state(state))
