"""What the chief's process does besides training: begins the generation, hosts the coordinator, commits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from simulated.model import SPECS

from distckpt.commit.committer import Committer
from distckpt.commit.recovery import recover
from distckpt.errors import DistckptError, FatalError, Fenced, ObjectMissing, OutcomeUnknown, cause_of
from distckpt.journal.log import Journal
from distckpt.journal.records import Process as Writer
from distckpt.protocol import effects, events
from distckpt.protocol.coordinator import Coordinator
from distckpt.protocol.messages import Wish
from distckpt.protocol.retention import KeepLatest

if TYPE_CHECKING:
    from simulated.process import Process


TOOLS = 1_000_000
"""Numbers of tools' wishes, apart from those of the chief's own worker."""


class Chief:
    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.world
        self._lane: deque[Callable[[], None]] = deque()
        self._lane_busy = False
        self._tick_at = float("inf")
        self._tools = 0
        self._committer: Committer | None = None
        self.coordinator: Coordinator | None = None

    def open(self) -> None:
        """Begins a generation and recovers. Where that fails, the process ends."""
        world, process = self._world, self._process
        try:
            journal = Journal.open(process.disk)
            writer = Writer("host", process.start)
            addresses = ("chief:1",)
            generation = journal.begin(job=world.job, process=writer, world=addresses, timestamp=world.wall_clock)
            world.tell(f"{process} begins generation {generation}")
            last_preserved = recover(process.disk, journal, "/job", now=world.wall_clock)
        except DistckptError as error:
            process.die(f"cannot begin: {type(error).__name__}: {error}")
            return
        policy = KeepLatest(world.faults.keep)
        self._committer = Committer(
            process.disk,
            journal,
            world.job,
            policy,
            last_preserved,
            clock=lambda: world.wall_clock,
            leased=lambda _: world.reader.leased,
        )
        size = world.faults.world_size
        live, set_aside = journal.state.live, [each.checkpoint.name for each in journal.state.quarantined]
        self.coordinator = Coordinator(
            world.job, generation, size, world.deadlines, live, set_aside=set_aside, cross_check="refuse"
        )
        world.network.chiefs[generation] = process
        process.begin(generation)
        world.begun(process, generation)

    def handle(self, event: events.CoordinatorEvent) -> None:
        """The coordinator handles `event` and what follows is done."""
        process = self._process
        if not process.alive or self.coordinator is None or process.postponed(lambda: self.handle(event)):
            return
        for effect in self.coordinator.handle(event, self._world.now):
            self._perform(effect)
        deadline = self.coordinator.next_deadline()
        if deadline is not None and deadline < self._tick_at:
            self._tick_at = deadline
            self._world.at(deadline - self._world.now, self._tick)

    def tool_wishes(self, wish: Wish) -> None:
        """A tool asks the coordinator for a save."""
        self._tools += 1
        self._world.checker.wishes[self._process.incarnation, TOOLS + self._tools] = (self._world.now, wish)
        self.handle(events.ToolWishes(TOOLS + self._tools, wish))

    def _tick(self) -> None:
        if self._world.now >= self._tick_at:
            self._tick_at = float("inf")
            self.handle(events.Tick())

    def _perform(self, effect: effects.CoordinatorEffect) -> None:
        match effect:
            case effects.Send(envelope=envelope):
                self._world.network.to_agent(self._process, envelope)
            case effects.CheckProbe():
                self._world.at(0.01, lambda: self._check_probe(effect))
            case effects.Commit():
                self._work(lambda: self._commit(effect))
            case effects.Quarantine():
                self._work(lambda: self._quarantine(effect))
            case effects.WishAnswered(answer=answer):
                self._world.checker.wish_over(self._process, answer)
            case effects.Discard(handles=handles):
                self._work(lambda: self._discard(handles))
            case effects.Log(text=text):
                self._world.tell(f"{self._process} coordinator: {text}")

    def _check_probe(self, effect: effects.CheckProbe) -> None:
        fault: str | None = None
        try:
            found = self._process.disk.read(effect.key).decode()
        except ObjectMissing as error:
            fault = str(error)
        else:
            self._world.checker.require(found == effect.incarnation, f"{effect.key} holds {found}")
        self.handle(events.ProbeResult(effect.worker, effect.incarnation, fault))

    # ----------------------------------------------------------------------------------- the lane: one thing at a time

    def _work(self, job: Callable[[], None]) -> None:
        self._lane.append(job)
        if not self._lane_busy:
            self._lane_busy = True
            self._world.at(self._world.rng.uniform(0, 0.2), self._work_next)

    def _work_next(self) -> None:
        if self._lane:
            self._process.guarded(self._lane.popleft())
            self._world.at(0.01, self._work_next)
        else:
            self._lane_busy = False

    def _commit(self, effect: effects.Commit) -> None:
        assert self._committer is not None
        try:
            self._committer.commit(effect, SPECS, lambda done: self.handle(events.CommitDone(effect.round, *done)))
        except DistckptError as error:
            fatal = isinstance(error, FatalError | OutcomeUnknown)
            self._world.tell(f"{self._process} commit of round {effect.round}: {type(error).__name__}: {error}")
            self.handle(events.CommitFailed(effect.round, cause_of(error, 0), fatal))

    def _quarantine(self, effect: effects.Quarantine) -> None:
        assert self._committer is not None
        self._world.tell(f"{self._process} sets {effect.name} aside: {effect.reason}")
        try:
            self._committer.quarantine(effect.name, effect.reason)
        except Fenced as error:
            self.handle(events.Superseded(self._process.me.generation + 1, cause_of(error, 0)))
        except DistckptError as error:
            self._world.tell(f"{self._process}: {error}")
        self.handle(events.Quarantined(effect.round, effect.name))

    def _discard(self, handles: tuple[str, ...]) -> None:
        for handle in handles:
            try:
                self._process.disk.discard(handle)
            except DistckptError as error:
                self._world.tell(f"{self._process}: {error}")
