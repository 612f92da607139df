"""What may never happen (DESIGN: I1 to I7), looked at while the world runs and when it is over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulated.model import MODEL_BYTES, Tag, read_tag

from distckpt.bundle.names import index_file
from distckpt.errors import DistckptError, ObjectMissing
from distckpt.journal.codec import decode_entry
from distckpt.journal.log import Journal
from distckpt.journal.names import slot_key
from distckpt.journal.records import CommitRecord, GenerationRecord, QuarantineRecord, RetireRecord
from distckpt.journal.state import JournalState, apply
from distckpt.model import Cause, Checkpoint
from distckpt.protocol.messages import RestoreDecided, Wish, WishOver
from distckpt.storage.memory import MemoryStagedFile

if TYPE_CHECKING:
    from simulated.process import Process
    from simulated.world import World

GRACE_S = 0.1  # the world's clock stands still while a machine works; its messages travel


SALVAGED_S = 20.0  # so long after a loss what the survivors have kept is committed

LAST_WISH = "nothing goes wrong any more"


class Violation(AssertionError):
    """An invariant does not hold."""


@dataclass(frozen=True, slots=True)
class History:
    """What the journal's slots say, read one by one."""

    state: JournalState
    commits: dict[tuple[str, int], int]
    """Slot of the last commit of a name by a generation."""
    begun: dict[int, int]
    """Slot in which a generation began."""
    removed: dict[str, int]
    """Slot in which a name was last retired or quarantined."""


class Checker:
    def __init__(self, world: World) -> None:
        self._world = world
        self._acknowledged: list[tuple[str, int, int]] = []
        self._restored: list[tuple[int, str | None]] = []
        self._decisions: dict[tuple[int, int], str | None] = {}
        self.corrupted: set[str] = set()
        self._rotten: set[MemoryStagedFile | None] = set()
        self.wishes: dict[tuple[str, int], tuple[float, Wish]] = {}
        """Those that have no outcome yet, with the time they came."""
        self._loss: tuple[float, int] | None = None
        """When a worker was killed last, and the newest step that all survivors had kept; None where they may fail."""
        self.last_wish: WishOver | None = None
        self.flipped: frozenset[str] = frozenset()
        """The tensors of which some worker's memory has lost a bit."""
        self.found: set[str] = set()
        """Of those, the ones that a save was refused for."""
        self.takeovers: dict[int, int] = {}
        """The generations that a survivor began, with those in which it had captured what it commits."""

    def require(self, condition: object, what: str) -> None:
        if not condition:
            raise Violation(what)

    # ------------------------------------------------------------------------------------------------------- on the way

    def changed(self, key: str) -> None:
        """I1: what is visible is complete, at every moment."""
        if key.startswith("ckpt-"):
            name = key.split(".", 1)[0]
            if self._world.storage._files.get(key) in self._rotten:  # a link, which was not committed then
                self.corrupted.add(name)
            self._check_visible(name)

    def rotted(self, key: str, file: MemoryStagedFile, names: set[str]) -> None:
        """A bit of `file` has flipped, which `key` names and the checkpoints `names` have."""
        self._rotten.add(file)
        self.corrupted |= {key.split(".", 1)[0], *names}

    def _check_visible(self, name: str) -> Tag | None:
        if name in self.corrupted:
            return None
        try:
            self._world.storage.size(index_file(name))
        except ObjectMissing:
            return None
        try:
            tag = read_tag(self._world.storage, name)
        except DistckptError as error:
            raise Violation(f"I1: {name} is visible, and {error}") from error
        self.require(name == f"ckpt-{tag[1]}", f"I1: {name} holds step {tag[1]}")
        return tag

    def acknowledged(self, process: Process, checkpoint: Checkpoint, step: int) -> None:
        self.require(checkpoint.step == step, f"I6: {process} saved {step} and was told of {checkpoint.name}")
        heir = self.takeovers.get(checkpoint.generation)
        mine = process.me.generation
        self.require(mine in (checkpoint.generation, heir), f"I3: {process} was told of {checkpoint}, of another start")
        self._acknowledged.append((checkpoint.name, checkpoint.step, checkpoint.generation))

    def refused(self, process: Process, cause: Cause) -> None:
        """No false alarm: a save is refused for a bit that was flipped, and its tensor is named."""
        named = {tensor for tensor in self.flipped if tensor in cause.message}
        self.require(named, f"{process} was told {cause.message}")
        self.found |= named

    def restored(self, process: Process, decision: RestoreDecided) -> None:
        key = (process.me.generation, decision.round)
        self.require(self._decisions.setdefault(key, decision.name) == decision.name, f"{key}: two decisions")
        self._restored.append((process.me.generation, decision.name))

    def resolved(self, process: Process, asked_at: float) -> None:
        """I5: nobody waits longer than the deadlines say."""
        deadlines, waited = self._world.deadlines, self._world.now - asked_at
        longest = deadlines.join_s + max(deadlines.save_s, deadlines.restore_s + deadlines.silence_s) + GRACE_S
        longest += deadlines.takeover_s + process.frozen_s
        self.require(waited <= longest, f"I5: {process} waited for {waited:.1f} s")

    def lost(self, survivors: list[Process]) -> None:
        """A worker was killed."""
        common = set.intersection(*(set(each.kept) for each in survivors)) if survivors else set()
        self._loss = (self._world.now, max(common, default=-1)) if self._world.faults.only_kills else None

    def salvaged(self) -> None:
        """The job starts again: nothing that all survivors had kept is lost, if they had the time, and could write."""
        if self._loss is None:
            return
        at, step = self._loss
        self._loss = None
        live = Journal.open(self._world.storage).state.live
        newest = live[-1].step if live else -1
        late = self._world.now - at >= SALVAGED_S
        self.require(newest >= step or not late, f"step {step} was kept by all survivors, and {newest} is the newest")

    def held(self, process: Process, since: float) -> None:
        """I5: no training is held longer than the deadlines say."""
        waited = self._world.now - since - process.frozen_s
        self.require(waited <= self._world.deadlines.held_s + GRACE_S, f"I5: {process} was held for {waited:.1f} s")

    def wish_over(self, process: Process, answer: WishOver) -> None:
        """I5: each wish has one outcome, in time."""
        since, wish = self.wishes.pop((process.incarnation, answer.number))
        self.require(not self._is_late(process, since, wish), f"I5: {process} {wish}")
        if wish.reason == LAST_WISH:
            self.last_wish = answer
        self._world.tell(f"{process} wish {answer.number}: {answer.cause or answer.name}")

    # ------------------------------------------------------------------------------------------------------ at the end

    def finish(self) -> None:
        history = self._read_journal()
        for name, step, generation in self._acknowledged:
            self._check_kept(history, name, step, generation)
        for checkpoint in history.state.live:
            self._check_live(checkpoint)
        self.require(history.state.live, "I4: no checkpoint is left")
        self._check_restored(history)
        for process in self._world.network.processes.values():
            for asked_at in process.training.asked.values() if process.alive else ():
                self.resolved(process, asked_at)
        for (incarnation, _), (since, wish) in self.wishes.items():
            process = self._world.network.processes[incarnation]
            self.require(not (process.alive and self._is_late(process, since, wish)), f"I5: {process} {wish}")

    def _is_late(self, process: Process, since: float, wish: Wish) -> bool:
        longest = wish.within_s + self._world.deadlines.silence_s + process.frozen_s + GRACE_S
        return self._world.now - since > longest

    def _read_journal(self) -> History:
        """I3: slots follow each other, each written by the generation of its time."""
        history = History(JournalState(), {}, {}, {})
        state, slot = history.state, 0
        while True:
            slot += 1
            key = slot_key(slot)
            try:
                entry = decode_entry(self._world.storage.read(key), key)
            except ObjectMissing:
                return History(state, history.commits, history.begun, history.removed)
            try:
                state = apply(state, entry)
            except DistckptError as error:
                raise Violation(f"I3: {error}") from error
            match entry.record:
                case CommitRecord(checkpoint=checkpoint):
                    history.commits[checkpoint.name, entry.generation] = slot
                case GenerationRecord(generation=generation):
                    history.begun[generation] = slot
                case RetireRecord(names=names):
                    history.removed.update(dict.fromkeys(names, slot))
                    self.require(state.live, "I4: retention left no checkpoint")
                case QuarantineRecord(name=name):
                    self.require(name in self.corrupted, f"I2: {name} was set aside, and nothing was wrong with it")
                    history.removed[name] = slot

    def _check_kept(self, history: History, name: str, step: int, generation: int) -> None:
        slot = history.commits.get((name, generation))
        self.require(slot is not None, f"I2: {name} of generation {generation} was acknowledged and never committed")
        live = any(c.name == name and c.step == step for c in history.state.live)
        removed = history.removed.get(name, 0) >= (slot or 0)
        self.require(live or removed, f"I2: {name} of generation {generation} was acknowledged and is lost")

    def _check_live(self, checkpoint: Checkpoint) -> None:
        """I1, I6, I7: what is committed is visible, and is what was captured, at its size."""
        if checkpoint.name in self.corrupted:
            return
        tag = self._check_visible(checkpoint.name)
        self.require(tag is not None, f"I1: {checkpoint.name} is committed and not visible")
        captured_in = self.takeovers.get(checkpoint.generation, checkpoint.generation)
        self.require(tag == (captured_in, checkpoint.step), f"I6: {checkpoint.name} holds {tag}")
        data = sum(file.size_bytes for file in checkpoint.files if ".data-" in file.name)
        # A linked file may hold what was the same once and is not any more, up to half of it.
        most = 2 * MODEL_BYTES if self._world.faults.slow_tensors.tensors else MODEL_BYTES
        self.require(MODEL_BYTES <= data <= most, f"I7: {checkpoint.name} has {data} bytes, the model {MODEL_BYTES}")

    def _check_restored(self, history: History) -> None:
        """I2: no restore goes back behind what earlier generations had acknowledged."""
        for generation, name in self._restored:
            before = [
                slot
                for acknowledged, _, by in self._acknowledged
                if (slot := history.commits[acknowledged, by]) > history.removed.get(acknowledged, 0)
                if by < generation and acknowledged not in self.corrupted
            ]
            slots = [slot for (restored, _), slot in history.commits.items() if restored == name]
            newest = max(before, default=0)
            self.require(
                max(slots, default=0) >= newest, f"I2: generation {generation} restored {name}, which is older"
            )
