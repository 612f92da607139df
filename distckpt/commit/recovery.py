"""What a new generation does before anything else: finish what the one before left undone, and clean up after it.

Run after GENERATION(n) stands in the journal, so that nobody else commits. Rolls forward: what the journal says
happened is made visible; what it does not say never was. Idempotent, and safe to die in.
"""

from __future__ import annotations

import logging
import time

from distckpt.commit.adoption import find_adoptable
from distckpt.commit.publication import hide, is_left_over, publish, remove
from distckpt.commit.statefile import write_state
from distckpt.errors import ObjectMissing
from distckpt.journal.log import Journal
from distckpt.journal.records import AdoptRecord, QuarantineRecord
from distckpt.storage.interface import Storage

log = logging.getLogger("distckpt.commit")


def recover(storage: Storage, journal: Journal, directory: str) -> float:
    """Brings the shared path to what the journal says. Returns the time of TensorFlow's last preserved checkpoint.

    `directory` is the path as TensorFlow's state file may spell it. Raises Fenced, StorageError, CorruptData.
    """
    _finish_removals(storage, journal)
    _finish_publication(storage, journal)
    now = time.time()
    state = journal.state
    known = frozenset({each.name for each in state.live} | {each.checkpoint.name for each in state.quarantined})
    found = find_adoptable(storage, directory, known, now)
    if found.checkpoints:
        journal.append(AdoptRecord(found.checkpoints))
        log.warning("adopted from plain TensorFlow: %s", ", ".join(c.name for c in found.checkpoints))
    # As in TensorFlow: a little back, so that a checkpoint saved at once is not taken for a preserved one.
    last_preserved = min(now, found.last_preserved) if found.last_preserved is not None else now - 1.0
    write_state(storage, journal.state.live, last_preserved)
    _discard_sealed_generations(storage, journal.state.generation)
    journal.compact()
    return last_preserved


def _finish_publication(storage: Storage, journal: Journal) -> None:
    """Only the newest commit can be unfinished: the chief publishes one before it commits the next."""
    committed = [checkpoint for checkpoint in journal.state.live if not checkpoint.adopted]
    if not committed:
        return
    newest = committed[-1]
    try:
        publish(storage, newest)
    except ObjectMissing as error:
        log.warning("%s is in the journal, and a file of it is gone: %s; it is set aside", newest.name, error)
        journal.append(QuarantineRecord(newest.name, str(error)))
        hide(storage, newest.name)


def _finish_removals(storage: Storage, journal: Journal) -> None:
    for checkpoint in journal.state.retired:
        if is_left_over(storage, checkpoint):
            remove(storage, checkpoint)
    for quarantined in journal.state.quarantined:
        hide(storage, quarantined.checkpoint.name)


def _discard_sealed_generations(storage: Storage, generation: int) -> None:
    for handle in storage.staged():
        if int(handle.split("/", 1)[0]) < generation:
            storage.discard(handle)
    for key in storage.keys(".distckpt/rendezvous") + storage.keys(".distckpt/probe"):
        if int(key.rsplit("/", 1)[1].split("-", 1)[0]) < generation:
            storage.delete(key)
