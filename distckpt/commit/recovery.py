"""What a new generation does before anything else: finish what the one before left undone, and clean up after it.

Run after GENERATION(n) stands in the journal, so that nobody else commits. Rolls forward: what the journal says
happened is made visible; what it does not say never was. Idempotent, and safe to die in.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

from distckpt.commit.adoption import Found, find_adoptable
from distckpt.commit.publication import heal, hide, removal_is_safe
from distckpt.commit.removal import Leased, forget_unsafe, postponed, remove_retired
from distckpt.commit.statefile import write_state
from distckpt.errors import ObjectMissing
from distckpt.journal.leases import nobody
from distckpt.journal.log import Journal
from distckpt.journal.records import AdoptRecord, PreserveRecord, QuarantineRecord
from distckpt.journal.state import JournalState
from distckpt.model import Checkpoint
from distckpt.storage.interface import Storage

log = logging.getLogger("distckpt.commit")


def recover(
    storage: Storage, journal: Journal, directory: str, leased: Leased = nobody, now: float | None = None
) -> float:
    """Brings the shared path to what the journal says. Returns the time of TensorFlow's last preserved checkpoint.

    `directory` is the path as TensorFlow's state file may spell it; `leased` says what is being read; `now` in seconds
    since the epoch (None: the system's clock). Raises Fenced, StorageError, CorruptData.
    """
    now = time.time() if now is None else now
    _finish_removals(storage, journal, leased)
    _finish_publications(storage, journal)
    state = journal.state
    known = frozenset({each.name for each in state.live} | {each.checkpoint.name for each in state.quarantined})
    found = find_adoptable(storage, directory, known, now)
    last_preserved = _last_preserved(found, state, now)
    if found.checkpoints:
        journal.append(AdoptRecord(_as_adopted(found, last_preserved, now)))
        log.warning("adopted from plain TensorFlow: %s", ", ".join(c.name for c in found.checkpoints))
    unclear = _unclear(journal.state.active, last_preserved, now)
    if unclear:
        journal.append(PreserveRecord(unclear))
        log.warning("kept for good, being no newer than the last preserved checkpoint: %s", ", ".join(unclear))
    if not _is_said(found, journal.state):
        write_state(storage, journal.state.live, last_preserved)
    _discard_sealed_generations(storage, journal.state)
    journal.compact()
    return last_preserved


def foresee_live(state: JournalState, found: Found, now: float) -> tuple[Checkpoint, ...]:
    """The live checkpoints as they will be after `recover`, but for those whose files are gone."""
    last_preserved = _last_preserved(found, state, now)
    live = (*state.live, *_as_adopted(found, last_preserved, now))
    unclear = _unclear(live, last_preserved, now)
    return tuple(replace(each, preserved=each.preserved or each.name in unclear) for each in live)


def _as_adopted(found: Found, last_preserved: float, now: float) -> tuple[Checkpoint, ...]:
    seen = (replace(each, timestamp=min(each.timestamp, now)) for each in found.checkpoints)
    return tuple(replace(each, preserved=each.timestamp <= last_preserved) for each in seen)


def _last_preserved(found: Found, state: JournalState, now: float) -> float:
    """TensorFlow's rule: the state file's, and not after `now`; without a state file a little before `now`, so that a
    checkpoint saved at once is not taken for a preserved one.

    Where the state file was lost, the journal knows; and where it was not yet rewritten after a preservation, it still
    lists what the journal says is preserved.
    """
    preserved = {each.name: each.timestamp for each in state.live if each.preserved}
    if found.last_preserved is not None:
        stale = (preserved[name] for name in found.listed if name in preserved)
        return min(now, max([found.last_preserved, *stale]))
    if preserved:
        return min(now, max(preserved.values()))
    return min([now, *(each.timestamp for each in state.active)]) - 1.0


def _unclear(active: Sequence[Checkpoint], last_preserved: float, now: float) -> tuple[str, ...]:
    """What is not after the last preserved one is not in TensorFlow's active set: that run, or a clock that went back,
    leaves it unclear whether it was preserved, and it is rather kept.
    """
    return tuple(each.name for each in active if min(each.timestamp, now) <= last_preserved)


def _is_said(found: Found, state: JournalState) -> bool:
    """Whether TensorFlow's state file fits the journal as it stands: then, as in TensorFlow, only a save rewrites it.

    So does one that names nothing of this directory, beside a journal that never had anything.
    """
    if not state.live:
        return not state.quarantined
    if not found.listed or found.listed[-1] != state.live[-1].name:
        return False
    return {each.name for each in state.active} <= set(found.listed) <= {each.name for each in state.live}


def _finish_publications(storage: Storage, journal: Journal) -> None:
    """The newest commit may be unfinished; the names of any may have been touched by a chief of a sealed generation."""
    for checkpoint in journal.state.live:
        try:
            heal(storage, checkpoint)
        except ObjectMissing as error:
            log.warning("%s is in the journal, and a file of it is gone: %s; it is set aside", checkpoint.name, error)
            journal.append(QuarantineRecord(checkpoint.name, str(error)))
            hide(storage, checkpoint)


def _finish_removals(storage: Storage, journal: Journal, leased: Leased) -> None:
    forget_unsafe(storage)
    safe = [each for each in journal.state.retired if removal_is_safe(storage, each)]
    remove_retired(storage, safe, journal.state.live, leased)
    for quarantined in journal.state.quarantined:
        if not quarantined.checkpoint.adopted:  # what stands under such a name may be TensorFlow's newest
            hide(storage, quarantined.checkpoint)


def _discard_sealed_generations(storage: Storage, state: JournalState) -> None:
    """Removes what earlier generations staged and never committed, and how their workers found each other."""
    kept = [*state.live, *(each.checkpoint for each in state.quarantined), *dict(postponed(storage)).values()]
    handles = {file.handle for checkpoint in kept for file in checkpoint.files}
    with storage.together():
        for handle in storage.staged():
            if int(handle.split("/", 1)[0]) < state.generation and handle not in handles:
                storage.discard(handle)
    for key in storage.keys(".distckpt/rendezvous") + storage.keys(".distckpt/probe"):
        if int(key.rsplit("/", 1)[1].split("-", 1)[0]) < state.generation:
            storage.delete(key)
