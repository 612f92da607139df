"""Following the journal cheaply: one look at one name tells whether anything was written."""

from __future__ import annotations

from distckpt.errors import CorruptJournal
from distckpt.journal.codec import decode_entry
from distckpt.journal.names import slot_key
from distckpt.journal.reading import load, read_slot, was_deleted
from distckpt.journal.state import JournalState, apply
from distckpt.storage.interface import Storage


class Follower:
    """What the journal says, kept up to date by `look`."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._state = JournalState()

    def look(self) -> JournalState:
        """The state now: all that stood when this was called is in it. Raises CorruptJournal, StorageError.

        Reads what is new, or everything where that was compacted away meanwhile (see `reading` and decision 0002).
        """
        if self._state.slot == 0:
            self._state = load(self._storage).state
            return self._state
        try:
            self._read_on()
        except CorruptJournal:  # met what compaction left half deleted, or something worse: `load` can tell
            self._state = load(self._storage).state
        return self._state

    def _read_on(self) -> None:
        while (data := read_slot(self._storage, self._state.slot + 1)) is not None:
            key = slot_key(self._state.slot + 1)
            self._state = apply(self._state, decode_entry(data, key))
        if was_deleted(self._storage, self._state.slot + 1):
            self._state = load(self._storage).state
