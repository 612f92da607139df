"""What each process may do next: worked out once for each state of it, whatever the others do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from checking.freezing import Table, bits
from checking.processes import Chief, Out
from checking.workers import Worker
from distckpt.protocol.messages import AgentEnvelope

if TYPE_CHECKING:
    from checking.search import Search

Move = tuple[object, ...]
Effect = tuple[int, int, int]
"""A process after a move, and what was sent and discarded: sets of bits."""
Act = Callable[[Any], Out]
END_STEP: Move = ("ends a step",)


class Moves:
    """What processes of one kind may do next, by their numbers; each worked out once."""

    def __init__(self, search: Search, *, is_chief: bool) -> None:
        self._search = search
        self._is_chief = is_chief
        self._hearing: dict[int, dict[int, Effect]] = {}
        self._own: dict[int, list[tuple[Move, int, Effect]]] = {}
        self._looked: dict[int, int] = {}  # the messages that were tried
        self._heard: dict[int, int] = {}  # and those of them that do something

    def hearing(self, number: int, sent: int, discarded: int) -> Iterator[tuple[Move, Effect]]:
        """Of the messages `sent` those that change something."""
        new = sent & ~self._looked.get(number, 0)
        if new:
            self._look(number, new)
        effects = self._hearing[number]
        for bit in bits(sent & self._heard[number]):
            effect = effects[bit]
            if effect[0] != number or effect[1] & ~sent or effect[2] & ~discarded:
                yield ("hears", bit), effect

    def _look(self, number: int, new: int) -> None:
        effects = self._hearing.setdefault(number, {})
        for bit in bits(new):
            envelope = self._search.envelopes.of(bit)
            if isinstance(envelope, AgentEnvelope) == self._is_chief:
                effect = self._made(number, lambda process, heard=envelope: process.hear(heard))
                if effect != (number, 0, 0):
                    effects[bit] = effect
                    self._heard[number] = self._heard.get(number, 0) | 1 << bit
        self._heard.setdefault(number, 0)
        self._looked[number] = self._looked.get(number, 0) | new

    def own(self, number: int) -> list[tuple[Move, int, Effect]]:
        """What it may do by itself; whether that is a fault (1) or not (0)."""
        if number not in self._own:
            listed = self._list_chief(number) if self._is_chief else self._list_worker(number)
            self._own[number] = [(move, fault, self._made(number, act)) for move, fault, act in listed]
        return self._own[number]

    def _list_worker(self, number: int) -> Iterator[tuple[Move, int, Act]]:
        worker = self._search.workers.of(number)
        for each in worker.writes:
            yield ("writes", each), 0, partial(Worker.write, number=each[0], share=each[1], well=True)
            yield ("cannot write", each), 1, partial(Worker.write, number=each[0], share=each[1], well=False)
        if worker.may_end_step:
            yield END_STEP, 0, Worker.end_step
        if worker.may_part:
            yield ("parts",), 0, Worker.part
        if worker.may_lose:
            yield ("loses its connection",), 1, Worker.lose_connection
        if worker.alive and worker.waits:
            yield ("loses patience",), 1, Worker.lose_patience

    def _list_chief(self, number: int) -> Iterator[tuple[Move, int, Act]]:
        for worker in range(self._search.bounds.workers):
            yield ("loses", worker), 1, partial(Chief.lose, worker=worker)
        yield ("passes a deadline",), 1, Chief.pass_deadline
        yield ("finds a share late",), 1, Chief.grow_impatient
        if self._search.chiefs.of(number).outcome is not None:
            yield ("is told of its commit",), 0, Chief.hear_outcome

    def _made(self, number: int, act: Act) -> Effect:
        search = self._search
        table: Table[Any] = search.chiefs if self._is_chief else search.workers
        process = table.of(number)
        out = act(process)
        return (
            table.number(process),
            search.mask(search.envelopes, out.sent),
            search.mask(search.handles, out.discarded),
        )
