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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from checking.freezing import Table, bits, memoised
from checking.journals import Shared
from checking.moves import END_STEP, Effect, Move, Moves
from checking.processes import Broken, Chief, Envelope, Out, require
from checking.workers import Course, Worker
from distckpt.errors import CorruptJournal, Fenced, OutcomeUnknown, SaveAborted, StorageNoSpace, cause_of, error_from
from distckpt.model import Cause, Checkpoint, FileRecord
from distckpt.protocol.messages import CoordinatorEnvelope

UNBORN = -1
JOURNAL, SENT, DISCARDED, FAULTS, FIRST = 0, 1, 2, 3, 4
State = tuple[int, ...]
Path = tuple[Move, "Path"] | None


@dataclass(frozen=True, slots=True)
class Bounds:
    """The job: `steps` are saved, one after the other, by all of `workers`, who have not joined yet.

    `generations`: how many chiefs there are, each with workers of its own. With one, a successor's GENERATION record
    may still come at any time. `before`: the steps up to this one were committed by an earlier generation, and are
    saved again. `faults`: so many in one run of: a share that cannot be written; a commit that fails, or whose answer
    is lost; a connection that breaks (each end notices by itself); a share that is late; a deadline that passes (of a
    round, or of a worker's save). `apart`: the last worker is a step ahead of the others. `ends`: so many steps end, of
    every `every`-th a snapshot is kept, and where one is to be saved, it is when it has ended; `parts`: then the
    managers are closed. A step ends on no worker before all have ended the one before.
    """

    workers: int
    steps: int
    faults: int
    generations: int = 1
    before: int = 0
    apart: bool = False
    ends: int = 0
    every: int = 1
    parts: bool = False


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
        self._of_chief = Moves(self, is_chief=True)
        self._of_worker = Moves(self, is_chief=False)
        self._committing = memoised(self._commit)
        self._read = memoised(self._read_journal)
        self._judged = memoised(self._judge)
        self._judged_kept = memoised(self._judge_kept)
        self._standing = memoised(self.workers.of)
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
        bounds = self.bounds
        chief = Chief(shared.generation, bounds.workers, shared.live, salvages=bool(bounds.ends))
        size, ahead = bounds.workers, int(bounds.apart)
        firsts = [1] * (size - 1) + [1 + ahead]
        courses = [
            Course(tuple(range(first, first + bounds.steps)), bounds.ends, bounds.every, bounds.parts)
            for first in firsts
        ]
        workers = [Worker(shared.generation, worker, size, courses[worker]) for worker in range(size)]
        sent = [envelope for worker in workers for envelope in worker.start().sent]
        if bounds.ends:  # a manager is there once its worker has joined, and a step needs all workers
            welcomes = [welcome for envelope in sent for welcome in chief.hear(envelope).sent]
            sent += welcomes
            sent += [said for each in welcomes for said in workers[each.receiver.worker].hear(each).sent]
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
                if move == END_STEP and not self._all_are_at(state, place):
                    continue
                if faults or not fault:
                    yield (place, *move), changed(state, place, effect, fault)
            if is_chief:
                yield from self._commits(state, place, faults=faults)
            else:
                yield from self._survives(state, place)
        if self.bounds.generations == 1 and self._read(state[JOURNAL])[1] == 1 + bool(self.bounds.before):
            sealed = self.journals.number(self.journals.of(state[JOURNAL]).begin())
            yield ("a later generation begins",), (sealed, *state[1:])

    def _all_are_at(self, state: State, place: int) -> bool:
        """Whether all workers have ended the step that this one has ended: each next one needs them all."""
        others = [self._standing(number) for number in self._group(state, place)]
        return min(worker.at for worker in others) == self._standing(state[place]).at

    def _group(self, state: State, place: int) -> tuple[int, ...]:
        """The workers of the same chief."""
        first = place - (place - FIRST) % self._width + 1
        return state[first : first + self.bounds.workers]

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
        elif worker.heir == 0:
            what, shared, out = self._begin_as_heir(worker, shared)
        else:
            what, shared, out = self._commit_as_heir(worker, shared)
        return what, self.journals.number(shared), self.numbered(self.workers, worker, out)

    def _begin_as_heir(self, worker: Worker, shared: Shared) -> tuple[str, Shared, Out]:
        asked = worker.taken
        try:
            begun = shared.succeed(worker.me.generation, asked.step if asked.salvage else None)
        except SaveAborted as error:
            return "finds a newer commit", shared, worker.takeover_ended(None, cause_of(error, worker.me.worker))
        if begun is None:
            return "finds another faster", shared, worker.takeover_ended(None)
        worker.heir = begun.generation
        return "takes over", begun, Out()

    def _commit_as_heir(self, worker: Worker, shared: Shared) -> tuple[str, Shared, Out]:
        assert worker.order is not None
        step = worker.taken.step
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
        if self.bounds.ends:
            for place in self._places[1 :: self._width]:
                if state[place] != UNBORN:
                    wrong = self._judged_kept(journal, state[FAULTS], self._group(state, place))
                    require(not wrong, wrong)

    def _read_journal(self, journal: int) -> tuple[int, int, dict[tuple[int, int], tuple[str, ...]]]:
        """The handles that commits name, the generation, and the commits. I3: raises CorruptJournal."""
        shared = self.journals.of(journal)
        commits = shared.commits()
        newest = 0
        for (_, step), handles in commits.items():
            if all("-kept-" in handle for handle in handles):
                self._told.add("a survivor has salvaged" if "-all-" in handles[0] else "the chief has salvaged")
                require(step > newest, f"step {step} is salvaged after step {newest} was committed")
            newest = max(newest, step)
        return self.mask(self.handles, [h for handles in commits.values() for h in handles]), shared.generation, commits

    def _judge(self, number: int, journal: int) -> str:
        """What is wrong with what a worker was told, given what the journal says; nothing: an empty text.

        Where it was told of a round that was given up, the same step may be committed by a later round without it.
        """
        worker = self.workers.of(number)
        _, _, commits = self._read(journal)
        for ordinal, kind in worker.told.items():
            step, salvage = worker.asked[ordinal - 1].step, worker.asked[ordinal - 1].salvage
            self._told.add(f"salvage: {kind}" if salvage else kind)
            handles = commits.get((worker.me.generation, step))
            if kind == "Committed" and handles is None and (worker.me.generation + 1, step) not in commits:
                return f"I2: {worker.me.incarnation} was told that step {step} is committed, and it is not"
            retry = kind != "Committed" and not salvage and error_from(Cause(kind, "")).advice == "retry"
            if retry and handles is not None and worker.aborted.get(ordinal, 0) in (0, round_of(handles)):
                return f"{worker.me.incarnation} was told {kind} of step {step}, and it is committed"
        return ""

    def _judge_kept(self, journal: int, faults: int, group: tuple[int, ...]) -> str:
        """What is wrong with what is kept (docs/decisions/0019-salvage.md): the newest snapshot that all workers have
        taken is there on each that goes on, unless a commit is as new, or it was tried to save it; and nobody is let go
        with it before all are closing, where nobody was lost.
        """
        workers = [self._standing(number) for number in group]
        newest = min(worker.at for worker in workers) // self.bounds.every * self.bounds.every
        if newest == 0 or any(step >= newest for _, step in self._read(journal)[2]):
            return ""
        for worker in workers:
            if worker.alive and newest not in worker.kept | worker.tried:
                return f"{worker.me.incarnation} has let go of the end of step {newest}, which all have kept"
            is_early = worker.parted_with and not all(other.is_parting for other in workers)
            if is_early and faults == self.bounds.faults:
                return f"{worker.me.incarnation} may go with the end of step {newest} while others go on"
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


def round_of(handles: tuple[str, ...]) -> int:
    """The round that staged them; see `Worker.write`."""
    return int(handles[0].split("/")[1].split("-")[0])


def changed(state: State, place: int, effect: Effect, faults: int) -> State:
    process, sent, discarded = effect
    head = (state[JOURNAL], state[SENT] | sent, state[DISCARDED] | discarded, state[FAULTS] - faults)
    return head + state[FIRST:place] + (process,) + state[place + 1 :]
