"""An evaluator: now and then it leases a checkpoint that the journal lists, and reads it some time later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulated.model import read_tag

from distckpt.bundle.names import index_file
from distckpt.errors import DistckptError
from distckpt.journal.log import Journal

if TYPE_CHECKING:
    from simulated.world import World

EVERY_S = 2.0


class Reader:
    """`leased` are the names that it holds now."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.leased: tuple[str, ...] = ()

    def begin(self) -> None:
        self._world.at(self._world.rng.uniform(0, EVERY_S), self._lease)

    def _lease(self) -> None:
        visible = set(self._world.storage.keys(""))
        live = [each.name for each in Journal.open(self._world.storage).state.live]
        live = [name for name in live if index_file(name) in visible]
        # A lease taken while a commit hangs comes too late for that commit's retention.
        if live and not self._world.faults.stall:
            name = self._world.rng.choice(live)
            self.leased = (name,)
            self._world.at(self._world.rng.uniform(0.5, 4.0), lambda: self._read(name))
        else:
            self.begin()

    def _read(self, name: str) -> None:
        try:
            read_tag(self._world.storage, name)
        except DistckptError as error:
            self._world.checker.require(name in self._world.checker.corrupted, f"I4: {name} is leased, and {error}")
        self.leased = ()
        self.begin()
