"""One process of the simulated job: a real Agent, a training thread, and on the chief a real Coordinator and Committer.

What the runtime does with threads is done here with events of the world's one queue: an effect that takes time has its
outcome later, and a process that has died does nothing any more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from simulated.chief import Chief
from simulated.disk import Crash, Disk
from simulated.model import DIGEST, SPECS, Memory, Tag, check, own_bytes, read_tag, stage_share
from simulated.takeover import look, take_over
from simulated.training import Training

from distckpt.commit.verification import under_own_names
from distckpt.errors import CorruptData, ObjectMissing, StorageError, StorageNoSpace, cause_of
from distckpt.protocol import effects, events
from distckpt.protocol.agent import Agent
from distckpt.protocol.messages import Join, Sender, Wish
from distckpt.protocol.plan import plan
from distckpt.runtime.unchanged import Unchanged
from distckpt.storage.interface import Readable

if TYPE_CHECKING:
    from simulated.world import World

TAKES_SPACE = ("put_if_absent", "put", "stage", "stage_link", "write_at", "seal", "publish")


class Process:
    """`generation` is 0 until the chief has begun it (the chief) or told it (the others)."""

    def __init__(self, world: World, worker: int, incarnation: str, start: int) -> None:
        self.world = world
        self.worker = worker
        self.incarnation = incarnation
        self.start = start
        self.alive = True
        self.frozen_until = 0.0
        self.frozen_s = 0.0
        self._doomed = False
        self.disk = Disk(world.storage, self, world.checker.changed)
        self.chief: Chief | None = Chief(self) if worker == 0 else None
        self.training = Training(self)
        self.agent: Agent | None = None
        self.unchanged: Unchanged | None = None
        self.files: Readable | None = None
        self.me = Sender(world.job, 0, worker, incarnation)
        self.snapshots: dict[int, Tag] = {}
        self.kept: list[int] = []
        self._tick_at = float("inf")
        self._writing = False
        self._to_write: deque[effects.WriteShare] = deque()
        self._wishes = 0
        self._flipped: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.incarnation}(worker {self.worker}, generation {self.me.generation})"

    # ------------------------------------------------------------------------------------------------- life and death

    def begin(self, generation: int) -> None:
        """Starts the agent in `generation`."""
        self.me = Sender(self.world.job, generation, self.worker, self.incarnation)
        probe = f".distckpt/probe/{generation:08d}-{self.incarnation}"
        try:
            self.disk.put(probe, self.incarnation.encode())
        except StorageError:
            self.die("cannot write its probe")
            return
        join = Join(self.world.faults.world_size, "host", self.worker, probe)
        if self.world.faults.slow_tensors.tensors:
            self.unchanged = Unchanged(self.disk, generation, threads=1)
        self.agent = Agent(self.me, join, self.world.deadlines, "chief:1")
        self.handle(events.Started())
        self.training.begin()

    def die(self, why: str) -> None:
        if self.alive:
            self.alive = False
            self.training.check_held()
            self.world.tell(f"{self} dies: {why}")
            self.world.died(self)

    def guarded(self, act: Callable[[], object]) -> None:
        """Runs `act` as this process; a Crash kills it."""
        if not self.alive or self.postponed(lambda: self.guarded(act)):
            return
        try:
            act()
        except Crash as crash:
            self.die(f"crash at {crash}")

    def freeze(self, seconds: float) -> None:
        """Nothing of this process runs for so long; then all that was due does."""
        begun = max(self.frozen_until, self.world.now)
        self.frozen_until = max(self.frozen_until, self.world.now + seconds)
        self.frozen_s += self.frozen_until - begun
        self.world.tell(f"{self} is frozen for {seconds:.1f} s")

    def postponed(self, act: Callable[[], object]) -> bool:
        """True while this process is frozen: `act` runs when it wakes."""
        if self.world.now >= self.frozen_until:
            return False
        self.world.at(self.frozen_until - self.world.now, act)
        return True

    # -------------------------------------------------------------------------------------------------- disk trouble

    def before(self, operation: str, key: str) -> None:
        world, rng, faults = self.world, self.world.rng, self.world.faults
        if not self.alive or self._doomed:
            raise Crash(operation)
        if faults.crash and rng.random() < faults.crash:
            self._crash(f"{operation} {key}")
        if faults.stall and world.may_stall and rng.random() < faults.stall:
            world.stall(self, rng.uniform(0.1, 8.0), f"{operation} {key}")
            if not self.alive:
                raise Crash(operation)
        if world.disk_full and operation in TAKES_SPACE:
            raise StorageNoSpace(f"simulated: {operation} {key}: no space left", key)
        if faults.refused and rng.random() < faults.refused:
            raise StorageError(f"simulated: {operation} {key} is refused", key)

    def _crash(self, where: str) -> None:
        """From here on nothing that the process does has an effect, not even what it does on its way out."""
        self._doomed = True
        raise Crash(where)

    def after(self, operation: str, key: str) -> bool:
        faults, rng = self.world.faults, self.world.rng
        if faults.crash and rng.random() < faults.crash:
            self._crash(f"the end of {operation} {key}")
        return bool(faults.unclear) and rng.random() < faults.unclear

    # ------------------------------------------------------------------------------------------------------- the agent

    def handle(self, event: events.AgentEvent) -> None:
        """The agent handles `event` and what follows is done."""
        if not self.alive or self.agent is None or self.postponed(lambda: self.handle(event)):
            return
        for effect in self.agent.handle(event, self.world.now):
            self._perform(effect)
        self._watch_clock()

    def _watch_clock(self) -> None:
        assert self.agent is not None
        deadline = self.agent.next_deadline()
        if deadline is not None and deadline < self._tick_at:
            self._tick_at = deadline
            self.world.at(deadline - self.world.now, self._tick)

    def _tick(self) -> None:
        if self.world.now >= self._tick_at:
            self._tick_at = float("inf")
            self.handle(events.Tick())

    def _perform(self, effect: effects.AgentEffect) -> None:  # noqa: C901, PLR0912 - one case for each effect
        world = self.world
        match effect:
            case effects.Tell(envelope=envelope):
                world.network.to_coordinator(self, envelope)
            case effects.Proceed(ordinal=ordinal):
                world.at(world.rng.uniform(0, 0.5), lambda: self._capture(ordinal))
            case effects.DescribeSpecs(round=number):
                world.at(0, lambda: self.handle(events.SpecsGiven(number, SPECS)))
            case effects.WriteShare():
                world.at(world.writing_time(), lambda: self._write_in_turn(effect))
            case effects.LookAtJournal():
                world.at(world.rng.uniform(0, 0.1), lambda: self.guarded(lambda: look(self, effect)))
            case effects.TakeOver():
                world.at(world.writing_time(), lambda: self.guarded(lambda: take_over(self, effect)))
            case effects.DropSnapshot(ordinal=ordinal):
                world.checker.require(ordinal in self.snapshots, f"{self}: a snapshot is dropped twice")
                del self.snapshots[ordinal]
            case effects.SaveKept(step=step):
                self.kept.remove(step)
                world.at(0, lambda: self._save_kept(step))
            case effects.ReleaseKept(step=step):
                self.kept.remove(step)
            case effects.Discard(handles=handles):
                world.at(0, lambda: self.guarded(lambda: self._discard(handles)))
            case effects.VerifyPart():
                world.at(world.rng.uniform(0, 0.5), lambda: self.guarded(lambda: self._verify(effect)))
            case effects.SetCeiling(proposal=proposal):
                ceiling = self.training.gate.set_ceiling(proposal)
                world.at(0, lambda: self.handle(events.CeilingSet(proposal, ceiling)))
                world.at(0, self.training.go_on)  # whom an earlier one holds
            case effects.LiftCeiling(proposal=proposal):
                self.training.gate.lift(proposal)
                world.at(0, self.training.go_on)
            case effects.Foresee(agreed=agreed):
                self.training.gate.foresee(agreed)
                world.at(0, self.training.go_on)
            case effects.WishResolved(answer=answer):
                world.checker.wish_over(self, answer)
            case effects.Resolve() | effects.RestoreResolved() | effects.Stopped():
                self.training.hear(effect)

    def request_save(self, ordinal: int, step: int, *, captured: bool) -> None:
        if captured:
            self.snapshots[ordinal] = (self.me.generation, step)
        own = own_bytes(self.worker)
        asked = events.SaveRequested(ordinal, step, f"ckpt-{step}", DIGEST, own, {"loss": 1.0 / step}, captured)
        self.handle(asked)

    def keep(self, step: int) -> None:
        """A snapshot of the end of a step is taken, and stays in memory."""
        self.kept.append(step)
        self.handle(events.Kept(step))

    def _save_kept(self, step: int) -> None:
        """Unless the training waits for a save of its own: that has been requested, or will be before anything else."""
        ordinal = self.training.begin_salvage(step)
        if ordinal is None or not self.alive or self.agent is None:
            return
        self.snapshots[ordinal] = (self.me.generation, step)
        self.handle(events.SaveRequested(ordinal, step, f"ckpt-{step}", DIGEST, own_bytes(self.worker), salvage=True))

    def wish(self, wish: Wish) -> None:
        """This worker wants a save that no worker foresaw."""
        self._wishes += 1
        self.world.checker.wishes[self.incarnation, self._wishes] = (self.world.now, wish)
        self.handle(events.WishMade(self._wishes, wish))

    def _capture(self, ordinal: int) -> None:
        if not self.alive:
            return
        if self.world.rng.random() < self.world.faults.capture_failed:
            cause = cause_of(RuntimeError("simulated: capture failed"), self.worker)
            self.handle(events.SaveFailedLocally(ordinal, cause))
            return
        self.snapshots[ordinal] = (self.me.generation, self.training.step)
        self.handle(events.Captured(ordinal))

    def _write_in_turn(self, effect: effects.WriteShare) -> None:
        """One share after the other, as on the real agent's lane: one that hangs holds up the next."""
        if self.postponed(lambda: self._write_in_turn(effect)):
            return
        if self._writing:
            self._to_write.append(effect)
            return
        self._writing = True
        self.guarded(lambda: self._write(effect))
        self._writing = False
        if self._to_write:
            following = self._to_write.popleft()
            self.world.at(0, lambda: self._write_in_turn(following))

    def _write(self, effect: effects.WriteShare) -> None:
        shares = plan(SPECS, effect.own_bytes, effect.splits, effect.weights)
        share = shares[effect.share]
        self._maybe_flip()
        slow = self.world.faults.slow_tensors
        memory = Memory(self.snapshots[effect.ordinal], self.worker, slow, self._flipped)
        name = f"{effect.round:08d}-{effect.share}-{self.incarnation}"
        try:
            if self.world.rng.random() < self.world.faults.write_failed:
                raise StorageNoSpace("simulated: no space left")
            own, unchanged = effect.share == 0, self.unchanged if effect.share == self.worker else None
            shard = stage_share(self.disk, name, memory, share, own=own, unchanged=unchanged)
        except StorageError as error:
            self.handle(events.ShareFailed(effect.round, effect.share, cause_of(error, self.worker)))
        else:
            first = effect.share == self.worker
            found = check(memory, shares, len(effect.own_bytes)) if first else None
            self.handle(events.ShareWritten(effect.round, effect.share, shard, found))

    def _maybe_flip(self) -> None:
        """A bit of this process's memory is not what it was, from now on."""
        if self.world.faults.flipped and self.world.rng.random() < self.world.faults.flipped:
            self._flipped |= {self.world.rng.choice(SPECS).name}
            self.world.checker.flipped |= self._flipped
            self.world.tell(f"{self} has a flipped bit in each of {sorted(self._flipped)}")

    def _discard(self, handles: tuple[str, ...]) -> None:
        for handle in handles:
            try:
                self.disk.discard(handle)
            except StorageError as error:
                self.world.tell(f"{self}: {error}")

    def _verify(self, effect: effects.VerifyPart) -> None:
        number, name = effect.round, effect.name
        if self.unchanged is not None:
            self.unchanged.forget_file()
        try:
            self.files = under_own_names(self.disk, name, effect.manifest_sha256, healing=self.worker == 0)
            read_tag(self.files, name)
        except (CorruptData, ObjectMissing) as error:
            self.handle(events.VerifyDone(number, name, str(error)))
        except StorageError as error:
            self.handle(events.VerifyFailed(number, cause_of(error, self.worker)))
        else:
            self.handle(events.VerifyDone(number, name))
