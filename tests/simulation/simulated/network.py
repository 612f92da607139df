"""The network between agents and coordinators: it loses, repeats, delays and reorders, and can be cut."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from distckpt.protocol import events
from distckpt.protocol.messages import AgentEnvelope, CoordinatorEnvelope

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulated.process import Process
    from simulated.world import World

CUT_EVERY_S = 2.0


class Network:
    """`chiefs`: by generation, the process at that generation's address, also when it is long superseded."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.chiefs: dict[int, Process] = {}
        self.processes: dict[str, Process] = {}
        self._cut: set[str] = set()

    def to_coordinator(self, sender: Process, envelope: AgentEnvelope) -> None:
        chief = self.chiefs.get(envelope.sender.generation)
        if chief is not None and chief.chief is not None:
            receive = chief.chief.handle
            self._carry(sender, chief, lambda: receive(events.Received(envelope)))

    def to_agent(self, chief: Process, envelope: CoordinatorEnvelope) -> None:
        receiver = self.processes.get(envelope.receiver.incarnation)
        if receiver is not None:
            self._carry(receiver, chief, lambda: receiver.handle(events.Heard(envelope)))

    def _carry(self, agent: Process, chief: Process, deliver: Callable[[], None]) -> None:
        world, rng, faults = self._world, self._world.rng, self._world.faults
        if agent is chief:
            world.at(0.001, deliver)
            return
        if agent.incarnation in self._cut:
            return
        for _ in range(2 if faults.repeat and rng.random() < faults.repeat else 1):
            if not faults.loss or rng.random() >= faults.loss:
                slow = faults.slow and rng.random() < faults.slow
                world.at(rng.uniform(0.2, 4.0) if slow else rng.uniform(0.005, 0.05), deliver)

    def maybe_cut(self) -> None:
        """Now and then cuts a process off for a while, with or without its connection being seen to break."""
        world, rng = self._world, self._world.rng
        for process in list(self.processes.values()):
            if process.alive and process.incarnation not in self._cut and rng.random() < world.faults.cut:
                self._cut.add(process.incarnation)
                world.tell(f"{process} is cut off")
                if rng.random() < 0.5:
                    self.broken(process)
                world.at(rng.uniform(0.2, 8.0), partial(self.mend, process))
        world.at(CUT_EVERY_S, self.maybe_cut)

    def mend(self, process: Process) -> None:
        self._cut.discard(process.incarnation)
        process.handle(events.ConnectionMade())

    def broken(self, process: Process) -> None:
        """Both ends of the connection of `process` hear that it broke."""
        chief = self.chiefs.get(process.me.generation)
        if chief is None or chief is process or chief.chief is None:
            return
        receive = chief.chief.handle
        lost = events.Disconnected(process.worker, process.incarnation)
        self._world.at(0.01, lambda: receive(lost))
        self._world.at(0.01, lambda: process.handle(events.ConnectionLost()))
