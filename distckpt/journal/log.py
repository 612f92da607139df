"""The journal of one directory: who may commit, and what was committed.

`open` reads. `begin` seals all earlier generations and makes this process the only writer of a new one; from then on
`append` writes its records. A slot is written once, so whoever lives in a sealed generation finds its next slot taken,
raises Fenced, and never writes again.

What callers must do: stop for good on Fenced. After OutcomeUnknown throw nothing away that the record names: it may
stand in the journal already, and the next call of `append`, `settle` or `check_fence` writes it again, the same bytes
into the same slot, before it does anything else. All methods may be called from any thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import RLock
from uuid import uuid4

from distckpt.errors import CorruptJournal, DirectoryInUse, DistckptError, Fenced, OutcomeUnknown, StorageError
from distckpt.journal import names
from distckpt.journal.codec import decode_entry, encode_entry
from distckpt.journal.compaction import compact
from distckpt.journal.names import slot_key
from distckpt.journal.reading import Loaded, load, read_slot, was_deleted
from distckpt.journal.records import Entry, GenerationRecord, Process, Record
from distckpt.journal.state import JournalState, apply
from distckpt.storage.interface import Storage

BEGIN_ATTEMPTS = 100
_PLACE_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class _Pending:
    """An entry whose writing began, and the state once it is known to stand."""

    entry: Entry
    data: bytes
    after: JournalState


class Journal:
    """Made by `open`. See the module."""

    def __init__(self, storage: Storage, loaded: Loaded) -> None:
        self._storage = storage
        self._state = loaded.state
        self._snapshot = loaded.snapshot
        self._generation: int | None = None
        self._pending: _Pending | None = None
        self._fenced: str | None = None
        self._lock = RLock()

    @classmethod
    def open(cls, storage: Storage) -> Journal:
        """Reads what there is; a directory without a journal has an empty one. Raises CorruptJournal, StorageError."""
        return cls(storage, load(storage))

    @property
    def state(self) -> JournalState:
        """As of the last record that this object read or wrote."""
        return self._state

    def begin(
        self,
        *,
        job: str,
        process: Process,
        world: tuple[str, ...],
        timestamp: float,
        nonce: str = "",
        admit: Callable[[JournalState], object] = lambda state: None,  # noqa: ARG005 - the state is for those who ask
    ) -> int:
        """Begins the next generation and returns its number. Once for each object.

        `admit` is called with what the journal says, and may raise to stay out (`liveness.claim` does). That state is
        exactly what the new generation follows: if anything is written in between, `admit` is asked again.
        Raises what `admit` raises, DirectoryInUse where others are faster again and again, StorageError, OutcomeUnknown
        (the generation may have begun, without a chief: begin again), CorruptJournal.
        """
        assert self._generation is None, "a journal begins one generation"
        start = nonce or uuid4().hex
        for _ in range(BEGIN_ATTEMPTS):
            loaded = load(self._storage)
            admit(loaded.state)
            generation, slot = loaded.state.generation + 1, loaded.state.slot + 1
            record = GenerationRecord(generation, job, start, process, world, timestamp)
            entry = Entry(slot, generation, uuid4().hex, record)
            # A slot that was empty because it had been deleted is no slot: see docs/decisions/0002.
            if self._place(entry, encode_entry(entry)) is None and not was_deleted(self._storage, slot):
                self._state, self._snapshot = apply(loaded.state, entry), loaded.snapshot
                self._generation = generation
                return generation
        raise DirectoryInUse(f"{BEGIN_ATTEMPTS} times another process wrote to the journal first: is one in a loop?")

    def append(self, record: Record) -> None:
        """Writes `record`, as this generation's next one, durably.

        Raises Fenced; OutcomeUnknown where it cannot be read whether it stands; StorageError where it does not and will
        not; ValueError where the record cannot follow the state.
        """
        with self._lock:
            self.settle()
            assert self._generation is not None, "only who began a generation may append"
            entry = Entry(self._state.slot + 1, self._generation, uuid4().hex, record)
            try:
                after = apply(self._state, entry)
            except CorruptJournal as error:
                raise ValueError(f"this cannot be appended: {error.detail}") from error
            self._pending = _Pending(entry, encode_entry(entry), after)
            self.settle()

    def settle(self) -> None:
        """Finds out what became of an append that raised OutcomeUnknown. Returns if it stands (or if there is none).

        Raises Fenced where it does not and never will, OutcomeUnknown where that is still unknown.
        """
        with self._lock:
            if self._fenced is not None:
                raise Fenced(self._fenced)
            pending = self._pending
            if pending is None:
                return
            try:
                occupant = self._place(pending.entry, pending.data)
            except StorageError:
                self._pending = None
                raise
            self._pending = None
            if occupant is not None:
                self._raise_fenced(pending.entry.slot, occupant)
            self._state = pending.after

    def check_fence(self) -> None:
        """Raises Fenced if a later generation has begun. One look at one name; `append` finds it out in any case."""
        with self._lock:
            self.settle()
            slot = self._state.slot + 1
            occupant = read_slot(self._storage, slot)
            if occupant is not None:
                self._raise_fenced(slot, occupant)

    def compact(self) -> bool:
        """Writes a snapshot and deletes what it makes superfluous, if enough was written since the last one.

        Whether it was due. Raises StorageError: nothing is lost then, and the next call goes on.
        """
        state = self._state
        if state.slot - self._snapshot < names.INTERVAL:
            return False
        compact(self._storage, state)
        self._snapshot = state.slot
        return True

    def _place(self, entry: Entry, data: bytes) -> bytes | None:
        """Puts `data` into the entry's slot. Returns None if it stands there, else the content that does.

        Raises StorageError where it does not stand and will not, OutcomeUnknown where that cannot be told. An unclear
        outcome is settled by reading the slot back: our bytes are ours, since each entry has its nonce. If there is
        nothing, the same bytes are put again: no harm if the first attempt comes through after all.
        """
        key = slot_key(entry.slot)
        unclear: OutcomeUnknown | None = None
        for _ in range(_PLACE_ATTEMPTS):
            refused: StorageError | None = None
            try:
                if self._storage.put_if_absent(key, data):
                    return None
            except OutcomeUnknown as error:
                unclear = error
            except StorageError as error:
                refused = error
            occupant = self._read_back(entry.slot, refused or unclear)
            if occupant is not None:
                return None if occupant == data else occupant
            if refused is not None and unclear is None:
                raise refused
        raise OutcomeUnknown(f"{key}: {unclear or 'it exists, and it cannot be found'}") from unclear

    def _read_back(self, slot: int, why: DistckptError | None) -> bytes | None:
        try:
            return read_slot(self._storage, slot)
        except StorageError as error:
            told = f"{slot_key(slot)}: {why or 'it exists'}, and it cannot be read back: {error}"
            raise OutcomeUnknown(told) from error

    def _raise_fenced(self, slot: int, occupant: bytes) -> None:
        record = decode_entry(occupant, slot_key(slot)).record
        if not isinstance(record, GenerationRecord):
            raise CorruptJournal(slot_key(slot), f"was written by another process in generation {self._generation}")
        self._fenced = (
            f"generation {record.generation} of job {record.job} has taken the directory over from generation "
            f"{self._state.generation} ({record.process}): this process may not write any more"
        )
        raise Fenced(self._fenced)
