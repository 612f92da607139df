"""Reading the journal while others write, compact and delete in it. Takes part in nothing, changes nothing.

That what is read is the truth, whatever happens meanwhile, is argued in docs/decisions/0002-journal-compaction.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from distckpt.errors import CorruptJournal, ObjectMissing
from distckpt.journal.codec import RECORD_BYTES_MAX, SNAPSHOT_BYTES_MAX, decode_entry, decode_snapshot
from distckpt.journal.names import (
    JOURNAL,
    is_milestone,
    milestone_of,
    slot_key,
    snapshot_key,
    snapshots_among,
)
from distckpt.journal.state import JournalState, apply
from distckpt.storage.interface import Storage

_ATTEMPTS = 100
_SAME_MAX = 3


@dataclass(frozen=True, slots=True)
class Loaded:
    """`state` is what the journal says; `snapshot` the slot of the snapshot it was read from (0: none)."""

    state: JournalState
    snapshot: int


def load(storage: Storage) -> Loaded:
    """What the journal says now. Raises CorruptJournal, StorageError.

    What does not fit together may be the work of others in the meantime. A slot that one attempt found passed over can
    be deleted under the second; the third must then see the snapshot that covers it. So three times the same is
    corrupt.
    """
    last, seen = "", 0
    for _ in range(_ATTEMPTS):
        try:
            return _load_once(storage)
        except CorruptJournal as error:
            seen = seen + 1 if str(error) == last else 1
            if seen == _SAME_MAX:
                raise
            last = str(error)
    raise CorruptJournal(JOURNAL, f"could not be read in {_ATTEMPTS} attempts; the last: {last}")


def read_slot(storage: Storage, slot: int) -> bytes | None:
    """The content of `slot`, None if it is empty."""
    try:
        return storage.read_at(slot_key(slot), 0, RECORD_BYTES_MAX + 1)
    except ObjectMissing:
        return None


def was_deleted(storage: Storage, slot: int) -> bool:
    """Whether `slot` may have been taken and deleted: then the first milestone after it is taken, and stays so."""
    if is_milestone(slot):
        return False
    try:
        storage.size(slot_key(milestone_of(slot)))
    except ObjectMissing:
        return False
    return True


def read_snapshot(storage: Storage, slot: int) -> JournalState:
    """The state after `slot`. Raises CorruptJournal, also where the snapshot is absent."""
    key = snapshot_key(slot)
    try:
        state = decode_snapshot(storage.read_at(key, 0, SNAPSHOT_BYTES_MAX + 1), key)
    except ObjectMissing:
        raise CorruptJournal(key, "vanished while the journal was read") from None
    if state.slot != slot:
        raise CorruptJournal(key, f"holds the state after slot {state.slot}")
    return state


def _load_once(storage: Storage) -> Loaded:
    base, faults = _newest_snapshot(storage)
    state = base
    while (data := read_slot(storage, state.slot + 1)) is not None:
        state = apply(state, decode_entry(data, slot_key(state.slot + 1)))
    if was_deleted(storage, state.slot + 1):
        faults.append(f"is missing, though slot {milestone_of(state.slot + 1)} exists")
        raise CorruptJournal(slot_key(state.slot + 1), "; ".join(reversed(faults)))
    return Loaded(state, base.slot)


def _newest_snapshot(storage: Storage) -> tuple[JournalState, list[str]]:
    """The newest snapshot that can be read, and what is wrong with those after it."""
    faults: list[str] = []
    for slot in reversed(snapshots_among(storage.keys(JOURNAL))):
        try:
            return read_snapshot(storage, slot), faults
        except CorruptJournal as error:
            faults.append(str(error))
    return JournalState(), faults
