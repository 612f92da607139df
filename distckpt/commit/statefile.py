"""TensorFlow's state file `checkpoint`: written from the journal after each commit, read to adopt what TensorFlow
wrote.
"""

from __future__ import annotations

from collections.abc import Sequence

from distckpt.bundle.statefile import STATE_FILE, CheckpointState, format_state
from distckpt.model import Checkpoint
from distckpt.storage.interface import Storage


def write_state(storage: Storage, live: Sequence[Checkpoint], last_preserved: float) -> None:
    """Rewrites the state file with `live`, oldest first; the last is the latest. Removes it where there is none."""
    if not live:
        storage.delete(STATE_FILE)
        return
    state = CheckpointState(
        model_checkpoint_path=live[-1].name,
        all_model_checkpoint_paths=tuple(checkpoint.name for checkpoint in live),
        all_model_checkpoint_timestamps=tuple(checkpoint.timestamp for checkpoint in live),
        last_preserved_timestamp=last_preserved,
    )
    storage.put(STATE_FILE, format_state(state))
