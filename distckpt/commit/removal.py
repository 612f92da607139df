"""Deleting what was retired, once nobody reads it.

Called after the RETIRE stands in the journal, and it asks for leases only then: whoever took a lease and found the
checkpoint live after that is seen here, and whoever looks into the journal later finds it retired (decision 0006). What
is still read is written down under `.distckpt/postponed/`, for the journal remembers what it retired only for a time.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterator, Sequence

from distckpt.commit.publication import removal_is_safe, remove
from distckpt.errors import CorruptJournal, ObjectMissing
from distckpt.journal.codec import RECORD_BYTES_MAX, checkpoint_from_json, checkpoint_to_json
from distckpt.journal.fields import Fields
from distckpt.model import Checkpoint
from distckpt.storage.interface import Storage

log = logging.getLogger("distckpt.commit")

POSTPONED = ".distckpt/postponed"

Leased = Callable[[Collection[Checkpoint]], Collection[str]]
"""The names of those checkpoints that somebody reads."""


def remove_retired(
    storage: Storage, retired: Sequence[Checkpoint], live: Collection[Checkpoint], leased: Leased
) -> None:
    """Deletes `retired` and what was postponed, but for those that are read: these are postponed.

    Afterwards none of `retired` needs any more care. Raises StorageError: then it is to be called again.
    """
    waiting = dict(postponed(storage))
    if not retired and not waiting:
        return
    held = leased([*retired, *waiting.values()])
    for checkpoint in retired:
        if checkpoint.name in held:
            _postpone(storage, checkpoint)
        else:
            remove(storage, checkpoint)
    names = {each.name for each in live}
    for key, checkpoint in waiting.items():
        if checkpoint.name in held:
            continue
        if not checkpoint.adopted or checkpoint.name not in names:  # that one has no names of its own
            remove(storage, checkpoint)
        storage.delete(key)


def postponed(storage: Storage) -> Iterator[tuple[str, Checkpoint]]:
    """What is to be deleted when nobody reads it any more, with the keys under which that is written down."""
    for key in storage.keys(POSTPONED):
        try:
            checkpoint = checkpoint_from_json(Fields(json.loads(storage.read_at(key, 0, RECORD_BYTES_MAX)), key))
        except ObjectMissing:
            continue
        except (CorruptJournal, ValueError, RecursionError) as error:
            log.warning("%s cannot be read, and its checkpoint stays: %s", key, error)
            continue
        yield key, checkpoint


def forget_unsafe(storage: Storage) -> None:
    """Lets go of what plain TensorFlow may have written anew since."""
    for key, checkpoint in postponed(storage):
        if not removal_is_safe(storage, checkpoint):
            storage.delete(key)


def _postpone(storage: Storage, checkpoint: Checkpoint) -> None:
    log.info("%s is retired, and deleted when its reader has finished", checkpoint.name)
    content = json.dumps(checkpoint_to_json(checkpoint)).encode()
    storage.put(f"{POSTPONED}/{checkpoint.generation}/{checkpoint.name}.json", content)
