"""The shared journal of the small job: a real Journal of each generation on one store, as a value."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import SimpleNamespace
from unittest.mock import patch

from distckpt.commit.succession import Succession, committed, is_start
from distckpt.errors import CorruptJournal, Fenced
from distckpt.journal import log
from distckpt.journal.codec import decode_entry
from distckpt.journal.leases import nobody
from distckpt.journal.log import Journal
from distckpt.journal.names import slot_key
from distckpt.journal.reading import Loaded, load
from distckpt.journal.records import CommitRecord, GenerationRecord, Process
from distckpt.journal.state import JournalState
from distckpt.model import Checkpoint
from distckpt.protocol.effects import LookAtJournal
from distckpt.protocol.events import JournalSeen
from distckpt.protocol.retention import NO_PRESERVATION, KeepLatest
from distckpt.storage.memory import MemoryStorage


@dataclass(frozen=True, slots=True)
class Shared:
    """What the store holds, and what each generation's Journal has read or written of it (None: it is fenced)."""

    objects: tuple[tuple[str, bytes], ...] = ()
    seen: tuple[tuple[int, JournalState | None], ...] = ()

    @property
    def generation(self) -> int:
        return load(self._storage()).state.generation

    @property
    def live(self) -> tuple[Checkpoint, ...]:
        return load(self._storage()).state.live

    def looked_at(self, generation: int, look: LookAtJournal) -> JournalSeen:
        """What a worker of `generation` is told of the journal. Nobody is seen to live: the worst that may be."""
        state = load(self._storage()).state
        done = committed(state, look.name, generation)
        return JournalSeen(look.ordinal, state.generation, is_start(state), "sign", is_gone=False, committed=done)

    def begin(self) -> Shared:
        """A new start of the job begins its generation."""
        storage = self._storage()
        journal = Journal.open(storage)
        generation = self.generation + 1
        with as_generation(generation):
            journal.begin(
                job="job", process=Process("host", generation), world=("chief:1",), timestamp=0.0, nonce="start"
            )
        return self._after(storage, generation, journal.state)

    def succeed(self, generation: int, newer_than: int | None) -> Shared | None:
        """A survivor of `generation` begins the next one; None where another was faster. Raises as the real
        Succession.begin does.
        """
        storage, heir = self._storage(), self.generation + 1
        succession = Succession(storage, "job", generation, "", KeepLatest(None), NO_PRESERVATION, nobody, lambda: 0.0)
        with as_generation(heir):
            journal = succession.begin(Process("host", heir), newer_than)
        return None if journal is None else self._after(storage, heir, journal.state)

    def append(self, generation: int, checkpoint: Checkpoint) -> Shared:
        """Commits as `generation`. Raises what the real Journal raises; after Fenced it goes on raising that."""
        state = dict(self.seen)[generation]
        if state is None:
            raise Fenced("told before")
        storage = self._storage()
        journal = Journal(storage, Loaded(state, 0))
        journal._generation = generation
        with as_generation(generation):
            journal.append(CommitRecord(checkpoint))
        return self._after(storage, generation, journal.state)

    def fenced(self, generation: int) -> Shared:
        return self._after(self._storage(), generation, None)

    def commits(self) -> dict[tuple[int, int], tuple[str, ...]]:
        """The handles of each commit, by generation and step. I3: raises CorruptJournal if the history is not legal."""
        load(self._storage())
        found: dict[tuple[int, int], tuple[str, ...]] = {}
        newest = 0
        for slot, (key, data) in enumerate(self.objects, 1):
            entry = decode_entry(data, key)
            if key != slot_key(slot) or entry.generation < newest:
                raise CorruptJournal(key, "is of a sealed generation, or there is a gap before it")
            newest = entry.generation
            if isinstance(entry.record, CommitRecord):
                made = entry.record.checkpoint
                if (entry.generation, made.step) in found:
                    raise CorruptJournal(key, f"step {made.step} is committed twice by one generation")
                found[entry.generation, made.step] = tuple(file.handle for file in made.files)
            elif not isinstance(entry.record, GenerationRecord):
                raise CorruptJournal(key, "nobody wrote such a record here")
        return found

    def _storage(self) -> MemoryStorage:
        storage = MemoryStorage()
        storage._objects.update(self.objects)
        return storage

    def _after(self, storage: MemoryStorage, generation: int, state: JournalState | None) -> Shared:
        seen = dict(self.seen) | {generation: state}
        return Shared(tuple(sorted(storage._objects.items())), tuple(sorted(seen.items())))


def as_generation(generation: int) -> AbstractContextManager[object]:
    """Nonces are the writer's, not drawn: the same state is reached again."""
    return patch.object(log, "uuid4", lambda: SimpleNamespace(hex=f"of-generation-{generation}"))
