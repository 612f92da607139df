"""What the journal says, as a pure fold over its records: `apply(state, entry) -> state`.

Rules, each held by `apply`: slots come without gaps; generations too, and only a GENERATION record changes the
generation; every other record is of the current generation; what is retired or quarantined was live; what is preserved
was active, and is never retired. A file belongs to one checkpoint: as soon as a commit names it, no retired or
quarantined checkpoint does any more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import accumulate, islice

from distckpt.errors import CorruptJournal
from distckpt.journal.names import slot_key
from distckpt.journal.records import (
    AdoptRecord,
    CommitRecord,
    Entry,
    GenerationRecord,
    PreserveRecord,
    QuarantineRecord,
    RetireRecord,
)
from distckpt.model import Checkpoint

REMEMBERED_MAX = 64
"""So many retired and so many quarantined checkpoints are remembered (and always all of the latest RETIRE)."""
REMEMBERED_FILES_MAX = 8_192
"""Of the retired ones no more than have so many files: a job of 1,000 workers would hold 64,000 otherwise, in its
memory and in every snapshot.
"""


@dataclass(frozen=True, slots=True)
class Quarantined:
    checkpoint: Checkpoint
    reason: str


@dataclass(frozen=True, slots=True)
class JournalState:
    """After slot `slot`. `begun` is the record of the current generation (None before the first).

    `live` are the checkpoints that exist, in the order of their commits; the preserved among them stay. `retired`
    ceased to exist, or were replaced; the files they name here are perhaps not deleted yet, and belong to no live
    checkpoint. Oldest first, all of them.
    """

    slot: int = 0
    begun: GenerationRecord | None = None
    live: tuple[Checkpoint, ...] = ()
    retired: tuple[Checkpoint, ...] = ()
    quarantined: tuple[Quarantined, ...] = ()

    @property
    def generation(self) -> int:
        return self.begun.generation if self.begun else 0

    @property
    def active(self) -> tuple[Checkpoint, ...]:
        """The live ones that retention may remove: those that are not preserved."""
        return tuple(each for each in self.live if not each.preserved)


def apply(state: JournalState, entry: Entry) -> JournalState:
    """The state after `entry`. Raises CorruptJournal, naming the slot, where it cannot follow `state`."""
    slot, record = entry.slot, entry.record
    _require(slot == state.slot + 1, slot, f"it says slot {slot}, after {state.slot}")
    state = replace(state, slot=slot)
    if isinstance(record, GenerationRecord):
        _require(
            record.generation == entry.generation == state.generation + 1,
            slot,
            f"generation {entry.generation} begins after generation {state.generation}",
        )
        return replace(state, begun=record)
    _require(
        0 < entry.generation == state.generation,
        slot,
        f"a record of generation {entry.generation} in generation {state.generation}",
    )
    match record:
        case CommitRecord():
            written = record.checkpoint.generation
            _require(written == entry.generation, slot, f"{record.checkpoint.name} is of generation {written}")
            return _added(state, record.checkpoint)
        case AdoptRecord():
            for checkpoint in record.checkpoints:
                _require(checkpoint.adopted, slot, f"it adopts {checkpoint.name}, which has a manifest")
                state = _added(state, checkpoint)
            return state
        case PreserveRecord():
            return _preserve(state, slot, record)
        case RetireRecord():
            return _retire(state, slot, record)
        case QuarantineRecord():
            return _quarantine(state, slot, record)


def _added(state: JournalState, checkpoint: Checkpoint) -> JournalState:
    name = checkpoint.name
    replaced = [each for each in state.live if each.name == name]
    replaced += [each.checkpoint for each in state.quarantined if each.checkpoint.name == name]
    return replace(
        state,
        live=(*(each for each in state.live if each.name != name), checkpoint),
        retired=_remembered(_without_files_of(checkpoint, (*state.retired, *replaced))),
        quarantined=tuple(each for each in state.quarantined if each.checkpoint.name != name),
    )


def _preserve(state: JournalState, slot: int, record: PreserveRecord) -> JournalState:
    names = set(record.names)
    found = sum(each.name in names for each in state.active)
    told = f"it preserves {', '.join(record.names)}: not all of them active, each once"
    _require(found == len(record.names), slot, told)
    live = tuple(replace(each, preserved=each.preserved or each.name in names) for each in state.live)
    return replace(state, live=live)


def _retire(state: JournalState, slot: int, record: RetireRecord) -> JournalState:
    names = set(record.names)
    gone = tuple(each for each in state.active if each.name in names)
    told = f"it retires {', '.join(record.names)}: not all of them live and not preserved, each once"
    _require(len(gone) == len(record.names), slot, told)
    return replace(
        state,
        live=tuple(each for each in state.live if each.name not in names),
        retired=_remembered((*state.retired, *gone), least=len(gone)),
    )


def _quarantine(state: JournalState, slot: int, record: QuarantineRecord) -> JournalState:
    found = tuple(Quarantined(each, record.reason) for each in state.live if each.name == record.name)
    _require(len(found) == 1, slot, f"it quarantines {record.name}, which is not live")
    return replace(
        state,
        live=tuple(each for each in state.live if each.name != record.name),
        quarantined=(*state.quarantined, *found)[-REMEMBERED_MAX:],
    )


def _remembered(retired: tuple[Checkpoint, ...], least: int = 0) -> tuple[Checkpoint, ...]:
    """The newest of `retired`; `least` of them at any rate, and always the last."""
    newest_first = accumulate(len(each.files) for each in reversed(retired))
    within = sum(files <= REMEMBERED_FILES_MAX for files in islice(newest_first, REMEMBERED_MAX))
    return retired[-max(within, least, 1) :]


def _without_files_of(owner: Checkpoint, others: Iterable[Checkpoint]) -> tuple[Checkpoint, ...]:
    """`others` without the files that are `owner`'s now, and without those that have none left."""
    owned = {file.name for file in owner.files}
    return tuple(left for each in others if (left := _without(each, owned)).files)


def _without(checkpoint: Checkpoint, names: set[str]) -> Checkpoint:
    if names.isdisjoint([file.name for file in checkpoint.files]):
        return checkpoint
    return replace(checkpoint, files=tuple(file for file in checkpoint.files if file.name not in names))


def _require(legal: bool, slot: int, detail: str) -> None:  # noqa: FBT001 - an assertion's shape
    if not legal:
        raise CorruptJournal(slot_key(slot), f"does not fit what precedes it: {detail}")
