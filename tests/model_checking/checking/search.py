"""Breadth first through every state that can be reached.

The network is the set of all that was ever sent; each message may be delivered at any time, any number of times, or
never: loss, repetition, delay and reordering, all of them. A process that dies is one that does nothing any more, and
nothing in here makes anyone go on; what its death makes others do (its connection breaks, a deadline passes) may happen
at any time. So every state stands for all in which any of its processes have died. A state is a tuple of numbers, one
for each process, the journal, the messages sent (a set of bits), the files discarded (another) and the faults left.

A state that was seen is remembered by its 64-bit hash alone: of a million states, one is skipped for a collision with a
chance of about one in 40 million.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from checking.freezing import Table, bits, memoised
from checking.journals import Shared
from checking.processes import Broken, Chief, Envelope, Out, Worker, require
from distckpt.errors import CorruptJournal, Fenced, OutcomeUnknown, StorageNoSpace, cause_of, error_from
from distckpt.model import Cause, Checkpoint, FileRecord
from distckpt.protocol.messages import AgentEnvelope, CoordinatorEnvelope

UNBORN = -1
JOURNAL, SENT, DISCARDED, FAULTS, FIRST = 0, 1, 2, 3, 4
State = tuple[int, ...]
Move = tuple[object, ...]
Path = tuple[Move, "Path"] | None
Effect = tuple[int, int, int]
"""A process after a move, and what was sent and discarded: sets of bits."""
Act = Callable[[Any], Out]


@dataclass(frozen=True, slots=True)
class Bounds:
    """The job: `steps` are saved, one after the other, by all of `workers`, who have not joined yet.

    `generations`: how many chiefs there are, each with workers of its own. With one, a successor's GENERATION record
    may still come at any time. `before`: the steps up to this one were committed by an earlier generation, and are
    saved again. `faults`: so many in one run of: a share that cannot be written; a commit that fails, or whose answer
    is lost; a connection that breaks (each end notices by itself); a share that is late; a deadline that passes (of a
    round, or of a worker's save). `apart`: the last worker is a step ahead of the others.
    """

    workers: int
    steps: int
    faults: int
    generations: int = 1
    before: int = 0
    apart: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    states: int
    transitions: int
    depth: int
    seconds: float
    exhausted: bool
    told: frozenset[str]
    """What any worker was told of any save."""


class Search:
    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.envelopes: Table[Envelope] = Table()
        self.handles: Table[str] = Table()
        self.chiefs: Table[Chief] = Table()
        self.workers: Table[Worker] = Table()
        self.journals: Table[Shared] = Table()
        self._width = 1 + bounds.workers  # a chief's coordinator, then its workers
        self._places = range(FIRST, FIRST + bounds.generations * self._width)
        self._of_chief = _Moves(self, is_chief=True)
        self._of_worker = _Moves(self, is_chief=False)
        self._committing = memoised(self._commit)
        self._read = memoised(self._read_journal)
        self._judged = memoised(self._judge)
        self._surviving = memoised(self._survive)
        self._told: set[str] = set()
        self._unheard = memoised(self._messages_to_ended)

    # ----------------------------------------------------------------------------------------------------------- search

    def run(self, states_max: int) -> Found:
        """Raises Broken, with the way there, for the first state that breaks a promise."""
        began = time.monotonic()
        first = self._first()
        seen, queue = {hash(first)}, deque[tuple[State, int, Path]]([(first, 0, None)])
        transitions = depth = 0
        path: Path = None
        try:
            while queue and len(seen) < states_max:
                state, depth, path = queue.popleft()
                for move, reached in self._after(state):
                    transitions += 1
                    after = self._without_the_unheard(reached)
                    key = hash(after)
                    if key not in seen:
                        seen.add(key)
                        self._check(after)
                        queue.append((after, depth + 1, (move, path)))
        except (Broken, CorruptJournal) as error:
            raise Broken("\n".join([str(error), *self._way(path)])) from error
        return Found(len(seen), transitions, depth, time.monotonic() - began, not queue, frozenset(self._told))

    def _first(self) -> State:
        shared = Shared()
        for step in range(1, self.bounds.before + 1):
            shared = shared.begin() if step == 1 else shared
            shared = shared.append(1, Checkpoint(f"ckpt-{step}", step, 0.0, 1, (FileRecord("index", 1),), "sha"))
        state = (0, 0, 0, self.bounds.faults) + (UNBORN,) * len(self._places)
        return self._begin(state, shared, FIRST)

    def _begin(self, state: State, shared: Shared, at: int) -> State:
        """The next generation begins, its chief at the place `at`."""
        shared = shared.begin()
        chief = Chief(shared.generation, self.bounds.workers, shared.live)
        size, ahead = self.bounds.workers, int(self.bounds.apart)
        firsts = [1] * (size - 1) + [1 + ahead]
        steps = [tuple(range(first, first + self.bounds.steps)) for first in firsts]
        workers = [Worker(shared.generation, worker, size, steps[worker]) for worker in range(size)]
        sent = [envelope for worker in workers for envelope in worker.start().sent]
        group = (self.chiefs.number(chief), *(self.workers.number(worker) for worker in workers))
        mask = state[SENT] | self.mask(self.envelopes, sent)
        started = (self.journals.number(shared), mask, *state[DISCARDED:at], *group)
        return started + state[len(started) :]

    def _after(self, state: State) -> Iterator[tuple[Move, State]]:
        """Whatever may happen next."""
        faults = state[FAULTS] > 0
        for place in self._places:
            number = state[place]
            is_chief = (place - FIRST) % self._width == 0
            if number == UNBORN:
                yield (place, "begins"), self._begin(state, self.journals.of(state[JOURNAL]), place)
                return
            moves = self._of_chief if is_chief else self._of_worker
            for move, effect in moves.hearing(number, state[SENT], state[DISCARDED]):
                yield (place, *move), changed(state, place, effect, 0)
            for move, fault, effect in moves.own(number):
                if faults or not fault:
                    yield (place, *move), changed(state, place, effect, fault)
            if is_chief:
                yield from self._commits(state, place, faults=faults)
            else:
                yield from self._survives(state, place)
        if self.bounds.generations == 1 and self._read(state[JOURNAL])[1] == 1 + bool(self.bounds.before):
            sealed = self.journals.number(self.journals.of(state[JOURNAL]).begin())
            yield ("a later generation begins",), (sealed, *state[1:])

    def _survives(self, state: State, place: int) -> Iterator[tuple[Move, State]]:
        """A worker whose coordinator is lost looks at the journal, or takes the next step of its takeover."""
        done = self._surviving(state[place], state[JOURNAL])
        if done is not None:
            what, journal, effect = done
            yield (place, what), changed((journal, *state[1:]), place, effect, 0)

    def _survive(self, number: int, journal: int) -> tuple[str, int, Effect] | None:
        worker, shared = self.workers.of(number), self.journals.of(journal)
        if worker.look is not None:
            what, out = "looks at the journal", worker.journal_seen(shared.looked_at(worker.me.generation, worker.look))
        elif worker.order is None:
            return None
        elif worker.heir == 0 and shared.generation != worker.me.generation:
            what, out = "finds another faster", worker.takeover_ended(None)
        elif worker.heir == 0:
            shared = shared.begin(survivor=True)
            worker.heir = shared.generation
            what, out = "takes over", Out()
        else:
            what, shared, out = self._commit_as_heir(worker, shared)
        return what, self.journals.number(shared), self.numbered(self.workers, worker, out)

    def _commit_as_heir(self, worker: Worker, shared: Shared) -> tuple[str, Shared, Out]:
        assert worker.order is not None
        step = worker.steps[worker.order.ordinal - 1]
        done = next(
            (each for each in shared.live if each.step == step and each.generation == worker.me.generation), None
        )
        try:
            if done is None:
                done = worker.checkpoint()
                shared = shared.append(worker.heir, done)
        except Fenced as error:
            return (
                "is fenced",
                shared.fenced(worker.heir),
                worker.takeover_ended(None, cause_of(error, worker.me.worker)),
            )
        return "has committed", shared, worker.takeover_ended(done)

    def numbered(self, table: Table[Any], process: object, out: Out) -> Effect:
        return table.number(process), self.mask(self.envelopes, out.sent), self.mask(self.handles, out.discarded)

    def _without_the_unheard(self, state: State) -> State:
        """`state` without the messages to workers that have ended: nobody will hear them."""
        unheard = 0
        for place in self._places:
            if (place - FIRST) % self._width and state[place] != UNBORN:
                unheard |= self._unheard(state[place], len(self.envelopes))
        if not unheard & state[SENT]:
            return state
        return (state[JOURNAL], state[SENT] & ~unheard, *state[DISCARDED:])

    def _messages_to_ended(self, number: int, known: int) -> int:
        worker = self.workers.of(number)
        if not worker.ended:
            return 0
        heard = (self.envelopes.of(bit) for bit in range(known))
        return sum(
            1 << n
            for n, each in enumerate(heard)
            if isinstance(each, CoordinatorEnvelope) and each.receiver == worker.me
        )

    def _commits(self, state: State, place: int, *, faults: bool) -> Iterator[tuple[Move, State]]:
        for how in ("is made", "fails", "is made, and not known to be") if faults else ("is made",):
            done = self._committing(state[place], state[JOURNAL], how)
            if done is not None:
                chief, journal = done
                after = changed((journal, *state[1:]), place, (chief, 0, 0), int(how != "is made"))
                yield (place, "a commit", how), after

    # --------------------------------------------------------------------------------------------- commits

    def _commit(self, number: int, journal: int, how: str) -> tuple[int, int] | None:
        """The chief and the journal after an ordered commit; None where none is."""
        chief, shared = self.chiefs.of(number), self.journals.of(journal)
        if chief.order is None:
            return None
        if how == "fails":
            chief.not_committed(StorageNoSpace("no space"), fatal=False)
            return self.chiefs.number(chief), journal
        try:
            shared = shared.append(chief.generation, chief.checkpoint())
        except Fenced as error:
            chief.not_committed(error, fatal=True)
            return self.chiefs.number(chief), self.journals.number(shared.fenced(chief.generation))
        if how == "is made":
            chief.committed()
        else:
            chief.not_committed(OutcomeUnknown("the answer is lost"), fatal=True)
        return self.chiefs.number(chief), self.journals.number(shared)

    # -------------------------------------------------------------------------------------------- what may never happen

    def _check(self, state: State) -> None:
        journal = state[JOURNAL]
        handles, _, _ = self._read(journal)
        for lost in bits(handles & state[DISCARDED]):
            raise Broken(f"I2: {self.handles.of(lost)} is committed and discarded")
        for place in self._places:
            if (place - FIRST) % self._width and state[place] != UNBORN:
                require(not self._judged(state[place], journal), self._judged(state[place], journal))

    def _read_journal(self, journal: int) -> tuple[int, int, dict[tuple[int, int], tuple[str, ...]]]:
        """The handles that commits name, the generation, and the commits. I3: raises CorruptJournal."""
        shared = self.journals.of(journal)
        commits = shared.commits()
        return self.mask(self.handles, [h for handles in commits.values() for h in handles]), shared.generation, commits

    def _judge(self, number: int, journal: int) -> str:
        """What is wrong with what a worker was told, given what the journal says; nothing: an empty text.

        Where it was told of a round that was given up, the same step may be committed by a later round without it.
        """
        worker = self.workers.of(number)
        _, _, commits = self._read(journal)
        for step, kind in worker.told.items():
            self._told.add(kind)
            handles = commits.get((worker.me.generation, step))
            if kind == "Committed" and handles is None and (worker.me.generation + 1, step) not in commits:
                return f"I2: {worker.me.incarnation} was told that step {step} is committed, and it is not"
            retry = kind != "Committed" and error_from(Cause(kind, "")).advice == "retry"
            if retry and handles is not None and worker.aborted.get(step, 0) in (0, round_of(handles)):
                return f"{worker.me.incarnation} was told {kind} of step {step}, and it is committed"
        return ""

    def mask(self, table: Table[Any], things: Iterable[object]) -> int:
        """`things` as bits."""
        mask = 0
        for thing in things:
            mask |= 1 << table.number(thing)
        return mask

    def _way(self, path: Path) -> list[str]:
        """The moves that led there, the first first, with what was said."""
        told: list[str] = []
        while path is not None:
            move, path = path
            heard = f": {self.envelopes.of(int(str(move[2])))}" if "hears" in move else ""
            told.append(" ".join(map(str, move)) + heard)
        return told[::-1]


class _Moves:
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
        if worker.alive and len(worker.told) < len(worker.steps):
            yield ("loses its connection",), 1, Worker.lose_connection
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


def round_of(handles: tuple[str, ...]) -> int:
    """The round that staged them; see `Worker.write`."""
    return int(handles[0].split("/")[1].split("-")[0])


def changed(state: State, place: int, effect: Effect, faults: int) -> State:
    process, sent, discarded = effect
    head = (state[JOURNAL], state[SENT] | sent, state[DISCARDED] | discarded, state[FAULTS] - faults)
    return head + state[FIRST:place] + (process,) + state[place + 1 :]
