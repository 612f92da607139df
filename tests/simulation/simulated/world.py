"""A job in a simulated world: one queue of events, one clock, one seed. See `run`."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any

from simulated.checker import LAST_WISH, Checker, Violation
from simulated.disk import rot
from simulated.faults import DEADLINES, Faults, draw
from simulated.network import CUT_EVERY_S, Network
from simulated.process import Process
from simulated.reader import Reader

from distckpt.protocol.messages import Wish
from distckpt.storage.memory import MemoryStorage

STORY_LENGTH = 200
STALL_DEPTH_MAX = 2
STARTS_MAX = 12
FINAL_S = 60.0  # by then the last start must have saved
SLICE_S = 0.5
EPOCH_S = 1.7e9


class World:
    def __init__(self, seed: int, **emphasis: Any) -> None:
        self.rng = Random(seed)
        self.faults: Faults = replace(draw(self.rng), **emphasis)
        self._jumps = self.faults.jumps
        self.deadlines = DEADLINES
        self.job = "job"
        self.now = 0.0
        self.story: deque[str] = deque(maxlen=STORY_LENGTH)
        self.storage = MemoryStorage()
        self.checker = Checker(self)
        self.network = Network(self)
        self.reader = Reader(self)
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._starts = 0
        self._stalls = 0
        self._group: list[Process] = []
        self._restarting = False
        self._healed = False
        self._saved_at: float | None = None

    # ------------------------------------------------------------------------------------------------ clock and queue

    def at(self, delay: float, act: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (self.now + max(0.0, delay), self._count, act))

    @property
    def wall_clock(self) -> float:
        """Seconds since the epoch, as the machines' clocks say, which jump. Nothing is decided by them."""
        return EPOCH_S + self.now + sum(by for at, by in self._jumps if at <= self.now)

    @property
    def disk_full(self) -> bool:
        return any(at <= self.now < at + length for at, length in self.faults.full)

    def tell(self, text: str) -> None:
        self.story.append(f"{self.now:8.3f} {text}")

    def _run_until(self, end: float) -> None:
        queue = self._queue
        while queue and queue[0][0] <= end:
            self.now, _, act = heapq.heappop(queue)
            act()
        self.now = max(self.now, end)

    @property
    def may_stall(self) -> bool:
        return self._stalls < STALL_DEPTH_MAX

    def stall(self, process: Process, seconds: float, where: str) -> None:
        """`process` hangs in the middle of an operation while everything else goes on."""
        self.tell(f"{process} hangs for {seconds:.1f} s before {where}")
        self._stalls += 1
        self._run_until(self.now + seconds)
        self._stalls -= 1
        self.tell(f"{process} goes on with {where}")

    def writing_time(self) -> float:
        slow = self.rng.random() < self.faults.write_slow
        return self.rng.uniform(1.0, 5.0) if slow else self.rng.uniform(0.01, 0.3)

    # ------------------------------------------------------------------------------------------------------- launcher

    def launch(self) -> None:
        """Starts all workers anew, as `distckpt run` does. The chief tells the others its generation."""
        self._restarting = False
        self._starts += 1
        self._group = [self._process(worker) for worker in range(self.faults.world_size)]
        chief = self._group[0]
        assert chief.chief is not None
        self.at(self.rng.uniform(0.0, 0.3), partial(chief.guarded, chief.chief.open))

    def _process(self, worker: int) -> Process:
        process = Process(self, worker, f"p{len(self.network.processes)}", self._starts)
        self.network.processes[process.incarnation] = process
        return process

    def begun(self, chief: Process, generation: int) -> None:
        for process in self._group:
            if process.start == chief.start and process is not chief:
                self.at(self.rng.uniform(0.0, 0.5), partial(process.guarded, partial(process.begin, generation)))

    def died(self, process: Process) -> None:
        if self.rng.random() < 0.7:
            self.network.broken(process)
        if process not in self._group or self._restarting:
            return
        if process.worker and process.me.generation and self.rng.random() < self.faults.lone_restart:
            self._restart_alone(process)
            return
        self._restarting = True
        self.at(self.rng.uniform(0.1, self.faults.restart_s), self._restart)

    def _restart_alone(self, dead: Process) -> None:
        fresh = self._process(dead.worker)
        self._group[dead.worker] = fresh
        generation = dead.me.generation
        self.at(self.rng.uniform(0.1, 2.0), partial(fresh.guarded, partial(fresh.begin, generation)))

    def _restart(self) -> None:
        """Kills what is left of the job, unless the kill does not reach it, and starts again."""
        self.checker.salvaged()
        for process in self._group:
            if process.alive and self.rng.random() < self.faults.zombie:
                self.tell(f"{process} lives on")
            elif process.alive:
                process.die("killed for a restart")
        if self._starts < STARTS_MAX or self._healed:
            self._corrupt_newest()
            self.launch()

    def _corrupt_newest(self) -> None:
        names = sorted(key for key in self.storage.keys("") if key.startswith("ckpt-") and ".data-" in key)
        if names and self.rng.random() < self.faults.corrupt:
            key = names[-1]
            self.checker.rotted(key, *rot(self.storage, key, self.rng))
            self.tell(f"{key} is corrupted")

    def all_are_at(self, process: Process) -> bool:
        """Whether all workers of its start live, and have come as far as it has: then it can take the next step."""
        mates = {each.worker: each for each in self.network.processes.values() if each.start == process.start}
        return all(each.alive and each.training.step >= process.training.step for each in mates.values())

    def is_superseded(self, process: Process) -> bool:
        return process.me.generation != max(self.network.chiefs, default=0)

    # -------------------------------------------------------------------------------------------------------- schedule

    def run(self) -> None:
        """Trouble until `heal_at`, then one start without trouble, which must restore and commit. Raises Violation."""
        self.launch()
        self.reader.begin()
        for at in self.faults.kills:
            self.at(at, self._kill_one)
        for at in self.faults.freezes:
            self.at(at, self._freeze_one)
        for at in self.faults.wishes:
            self.at(at, self._wish)
        if self.faults.cut:
            self.at(CUT_EVERY_S, self.network.maybe_cut)
        self._run_until(self.faults.heal_at)
        self._heal()
        end = self.now + FINAL_S
        while not self._is_quiet() and self.now < end:
            self._run_until(self.now + SLICE_S)
        self.checker.require(self._saved_at is not None, "the last start, without trouble, did not save")
        last = self.checker.last_wish
        self.checker.require(last is not None and last.cause is None, f"a wish without trouble: {last}")
        self.checker.finish()

    def _is_quiet(self) -> bool:
        """The last start has saved, by a wish too, and all that was asked for before that has its outcome."""
        if self._saved_at is None or self.checker.last_wish is None:
            return False
        living = (process for process in self.network.processes.values() if process.alive)
        return all(asked_at > self._saved_at for process in living for asked_at in process.training.asked.values())

    def saved(self, process: Process) -> None:
        """A save of `process` was acknowledged."""
        if self._healed and self._saved_at is None and process in self._group and not self._restarting:
            self._saved_at = self.now
            self.at(self.rng.uniform(0.0, 2.0), partial(process.wish, Wish(LAST_WISH, FINAL_S / 2)))

    def _kill_one(self) -> None:
        """Kills one process, or (a scheduler that lost sight of the job) starts the job again beside itself."""
        living = [process for process in self._group if process.alive]
        if living and not self._restarting and self.rng.random() < self.faults.zombie:
            self._restarting = True
            self._restart()
        elif living:
            self.rng.choice(living).die("killed")
            self.checker.lost([process for process in living if process.alive])

    def _freeze_one(self) -> None:
        living = [process for process in self._group if process.alive]
        if living:
            self.rng.choice(living).freeze(self.rng.uniform(0.2, 8.0))

    def _wish(self) -> None:
        """Some process, or a tool, wants a save."""
        living = [process for process in self._group if process.alive and process.agent is not None]
        if not living:
            return
        process = self.rng.choice(living)
        wish = Wish("simulated", self.rng.uniform(0.5, 8.0), final=self.rng.random() < 0.3)
        self.tell(f"{process} has a {wish}")
        if process.chief is not None and process.chief.coordinator is not None and self.rng.random() < 0.5:
            process.chief.tool_wishes(wish)
        else:
            process.wish(wish)

    def _heal(self) -> None:
        """The last start: nothing goes wrong any more. Who is still alive of earlier ones lives on."""
        self.tell("from here on nothing goes wrong")
        self.faults = self.faults.healed()
        self._healed = True
        for process in self.network.processes.values():
            if (
                process.alive
                and process.chief is not None
                and not process.me.generation
                and process.frozen_until > self.now
            ):
                process.die("it was frozen before it began: waking, it would be one more start of the job")
        if not self._restarting:
            self._restarting = True
            self.at(0.5, self._restart)


def run(seed: int, **emphasis: Any) -> None:
    """One schedule; `emphasis` sets rates of `Faults`, the rest is drawn. Raises Violation with its story."""
    world = World(seed, **emphasis)
    faults = world.faults
    try:
        world.run()
    except Exception as error:
        story = "\n".join(world.story)
        raise Violation(f"seed {seed}: {type(error).__name__}: {error}\n{faults}\n{story}") from error
