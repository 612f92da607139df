"""Snapshots, and the deletion of slots that they make superfluous (docs/decisions/0002-journal-compaction.md).

Never deleted: a slot with a GENERATION record (a fenced writer's next slot is one), a milestone (by which a deleted
slot is known), what cannot be read, the two newest snapshots that can, and the slots after the older of them.
"""

from __future__ import annotations

from distckpt.errors import CorruptJournal
from distckpt.journal.codec import decode_entry, encode_snapshot
from distckpt.journal.names import (
    JOURNAL,
    is_milestone,
    milestone_of,
    slot_key,
    slots_among,
    snapshot_key,
    snapshots_among,
)
from distckpt.journal.reading import read_slot, read_snapshot
from distckpt.journal.records import GenerationRecord
from distckpt.journal.state import JournalState
from distckpt.storage.interface import Storage

SNAPSHOTS_KEPT = 2


def compact(storage: Storage, state: JournalState) -> None:
    """Writes the snapshot of `state` and deletes what is no longer needed. May be cut short, and done by several."""
    storage.put(snapshot_key(state.slot), encode_snapshot(state))
    keys = storage.keys(JOURNAL)
    kept = _newest_readable(storage, snapshots_among(keys))
    if len(kept) < SNAPSHOTS_KEPT:
        return
    base = min(kept)
    for slot in snapshots_among(keys):
        if slot < base:
            storage.delete(snapshot_key(slot))
    for slot in slots_among(keys):
        if milestone_of(slot) <= base and _is_deletable(storage, slot):
            storage.delete(slot_key(slot))


def _is_deletable(storage: Storage, slot: int) -> bool:
    """Whether no writer can need `slot`, given that it is covered by two snapshots."""
    if is_milestone(slot):
        return False
    data = read_slot(storage, slot)
    try:
        return data is not None and not isinstance(decode_entry(data, slot_key(slot)).record, GenerationRecord)
    except CorruptJournal:
        return False


def _newest_readable(storage: Storage, snapshots: list[int]) -> list[int]:
    """The newest SNAPSHOTS_KEPT of `snapshots` that can be read."""
    readable: list[int] = []
    for slot in reversed(snapshots):
        try:
            read_snapshot(storage, slot)
        except CorruptJournal:
            continue
        readable.append(slot)
        if len(readable) == SNAPSHOTS_KEPT:
            break
    return readable
