"""A coordinator and its agents on a stage: messages arrive at once unless a worker is cut off, and what takes time is
done when the test says so. Everything that happens is written down.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from staged.wording import word

from distckpt.model import Cause, Checkpoint, Shard, TensorSpec
from distckpt.protocol import effects, events
from distckpt.protocol.agent import Agent
from distckpt.protocol.coordinator import Coordinator
from distckpt.protocol.deadlines import Deadlines
from distckpt.protocol.gate import Gate
from distckpt.protocol.messages import (
    AgentEnvelope,
    AgentMessage,
    Committed,
    CoordinatorEnvelope,
    CoordinatorMessage,
    Join,
    RestoreDecided,
    Sender,
    Wish,
    WishOver,
)

JOB, GENERATION = "digits", 1
DEADLINES = Deadlines()
TOOL = -1


class Stage:
    """`log`: what happened, in words; `logged`: what the coordinator logs.

    `outcomes[worker]`: of its requests, in order. `pending`: what is to be done.
    """

    def __init__(self, workers: int = 2, checkpoints: Sequence[Checkpoint] = (), set_aside: Sequence[str] = ()) -> None:
        self.now = 0.0
        self.workers = workers
        self.log: list[str] = []
        self.cut: set[int] = set()
        self.probe_faults: dict[int, str] = {}
        self.specs: dict[int, tuple[TensorSpec, ...]] = {}
        self.outcomes: dict[int, list[Committed | RestoreDecided | Cause]] = {w: [] for w in range(workers)}
        self.writes: dict[int, list[effects.WriteShare]] = {w: [] for w in range(workers)}
        self.verifies: dict[int, effects.VerifyPart] = {}
        self.takeovers: dict[int, int] = {}
        self.logged: list[str] = []
        self.commits: list[effects.Commit] = []
        self.quarantines: list[effects.Quarantine] = []
        self.discarded: list[str] = []
        self.kept: dict[int, list[int]] = {w: [] for w in range(workers)}
        self.parted: set[int] = set()
        self.dropped: dict[int, list[int]] = {w: [] for w in range(workers)}
        self.agents: dict[int, Agent] = {}
        self.senders: dict[int, Sender] = {}
        self.coordinator = Coordinator(JOB, GENERATION, workers, DEADLINES, checkpoints, set_aside=set_aside)
        self.gates: dict[int, Gate] = {}
        self.held: set[int] = set()
        self.wishes: list[WishOver] = []
        self.holder = events.JournalSeen(0, GENERATION)
        self.chief_lives = True
        self._ordinals = dict.fromkeys(range(workers), 0)
        self._wishes = dict.fromkeys((TOOL, *range(workers)), 0)
        self._queue: deque[Callable[[], None]] = deque()

    # ---------------------------------------------------------------------------------------------------- what happens

    def start(self, worker: int, incarnation: str = "", *, job: str = JOB, world_size: int | None = None) -> None:
        """A process of `worker` starts and tries to join."""
        me = Sender(job, GENERATION, worker, incarnation or f"w{worker}")
        size = self.workers if world_size is None else world_size
        join = Join(size, "host", 1000 + worker, f"probe-{worker}", f"10.0.0.{worker}:2222")
        self.senders[worker] = me
        self.agents[worker] = Agent(me, join, DEADLINES, "10.0.0.0:4000")
        self.gates[worker] = Gate()
        self.outcomes.setdefault(worker, [])
        self.happen(worker, events.Started())

    def start_all(self) -> Stage:
        for worker in range(self.workers):
            self.start(worker)
        return self

    def save(
        self,
        worker: int,
        step: int = 100,
        *,
        digest: str = "same",
        name: str = "",
        captured: bool = True,
        own_bytes: int = 0,
    ) -> None:
        ordinal = self._next(worker)
        name = name or f"ckpt-{step}"
        asked = events.SaveRequested(ordinal, step, name, digest, own_bytes, {"loss": 0.5}, captured)
        self.happen(worker, asked)

    def keep(self, worker: int, step: int) -> None:
        """The training of `worker` ends a step, and a snapshot of it is kept."""
        self.kept[worker].append(step)
        self.happen(worker, events.Kept(step))
        self.finish(worker, step)

    def _save_kept(self, worker: int, step: int) -> None:
        self.kept[worker].remove(step)
        name = f"ckpt-{step}"
        self._agent(worker, events.SaveRequested(self._next(worker), step, name, "same", 0, salvage=True))

    def restore(self, worker: int, selector: str = "latest") -> None:
        self.happen(worker, events.RestoreRequested(self._next(worker), selector))

    def wish(self, worker: int, reason: str = "SIGUSR1", within_s: float = 30.0, *, final: bool = False) -> None:
        """A worker, or a TOOL, wants a save."""
        self._wishes[worker] += 1
        wish = Wish(reason, within_s, final)
        if worker == TOOL:
            self.decide(events.ToolWishes(self._wishes[worker], wish))
        else:
            self.happen(worker, events.WishMade(self._wishes[worker], wish))

    def finish(self, worker: int, step: int) -> None:
        """The training of `worker` ends a step."""
        if self.gates[worker].ended(step):
            self._pass(worker)
        self.happen(worker, events.Progress(step))

    def _pass(self, worker: int) -> None:
        gate = self.gates[worker]
        if gate.holds:
            self.held.add(worker)
            self.log.append(f"{worker}: is held at the end of step {gate.last}")
            return
        self.held.discard(worker)
        agreed = gate.take_due()
        if agreed is not None:
            self.save(worker, gate.last)

    def _release(self, worker: int) -> None:
        if worker in self.held:
            self.log.append(f"{worker}: goes on after step {self.gates[worker].last}")
            self._pass(worker)

    def _next(self, worker: int) -> int:
        self._ordinals[worker] += 1
        return self._ordinals[worker]

    def ordinal(self, worker: int) -> int:
        return self._ordinals[worker]

    def write(self, worker: int) -> None:
        """The first share that `worker` has begun is written."""
        asked = self.writes[worker].pop(0)
        shard = Shard(worker, f"{GENERATION}/{asked.round}-{asked.share}", 8, ())
        self.happen(worker, events.ShareWritten(asked.round, asked.share, shard))

    def fail_share(self, worker: int, cause: Cause) -> None:
        """The first share that `worker` has begun cannot be written."""
        asked = self.writes[worker].pop(0)
        self.happen(worker, events.ShareFailed(asked.round, asked.share, cause))

    def write_all(self) -> None:
        for worker in sorted(self.writes):
            while self.writes[worker]:
                self.write(worker)

    def commit(self, *retired: str) -> None:
        """The commit that was ordered is done."""
        asked = self.commits.pop()
        made = Checkpoint(asked.name, asked.step, self.now, GENERATION, metrics=asked.metrics)
        self.decide(events.CommitDone(asked.round, made, retired))

    def take_over(self, worker: int, cause: Cause | None = None, *, first: bool = True, step: int = 100) -> None:
        """The takeover that `worker` has begun is over: it has committed, or failed, or another was `first`."""
        ordinal = self.takeovers.pop(worker)
        made = Checkpoint(f"ckpt-{step}", step, self.now, GENERATION + 1) if first and cause is None else None
        if first:
            self.holder = events.JournalSeen(0, GENERATION + 1, is_start=False, committed=made)
        self.happen(worker, events.TakeOverEnded(ordinal, made, cause))

    def fail_commit(self, kind: str, *, fatal: bool) -> None:
        asked = self.commits.pop()
        self.decide(events.CommitFailed(asked.round, Cause(kind, "the journal said so", 0), fatal))

    def verify(self, worker: int, fault: str | None = None) -> None:
        asked = self.verifies.pop(worker)
        self.happen(worker, events.VerifyDone(asked.round, asked.name, fault))

    def set_aside(self) -> None:
        asked = self.quarantines.pop()
        self.decide(events.Quarantined(asked.round, asked.name))

    def kill(self, worker: int) -> None:
        """The process dies, and the coordinator sees its connection break."""
        del self.agents[worker]
        self.decide(events.Disconnected(worker, self.senders[worker].incarnation))

    def say(self, worker: int, message: AgentMessage) -> None:
        """A message that the network kept back arrives (again)."""
        self.decide(events.Received(AgentEnvelope(self.senders[worker], message)))

    def tell(self, worker: int, message: CoordinatorMessage) -> None:
        """The same in the other direction."""
        self.happen(worker, events.Heard(CoordinatorEnvelope(self.senders[worker], message)))

    def happen(self, worker: int, event: events.AgentEvent) -> None:
        self._agent(worker, event)
        self._settle()

    def decide(self, event: events.CoordinatorEvent) -> None:
        self._coordinator(event)
        self._settle()

    def wait(self, seconds: float) -> None:
        """Time passes; whoever wants a Tick has it on time."""
        end = self.now + seconds
        while True:
            due = [(at, turn) for at, turn in self._deadlines() if at <= end]
            if not due:
                break
            at, turn = min(due, key=lambda pair: pair[0])
            self.now = max(self.now, at)
            turn()
            self._settle()
        self.now = end

    def _deadlines(self) -> list[tuple[float, Callable[[], None]]]:
        turns: list[tuple[float | None, Callable[[], None]]] = [
            (self.coordinator.next_deadline(), lambda: self._coordinator(events.Tick()))
        ]
        for worker, agent in self.agents.items():
            turns.append((agent.next_deadline(), partial(self._agent, worker, events.Tick())))
        return [(at, turn) for at, turn in turns if at is not None]

    # ------------------------------------------------------------------------------------------------ what it leads to

    def _settle(self) -> None:
        while self._queue:
            self._queue.popleft()()

    def _agent(self, worker: int, event: events.AgentEvent) -> None:
        agent = self.agents.get(worker)
        for effect in agent.handle(event, self.now) if agent is not None else ():
            self._of_agent(worker, effect)

    def _coordinator(self, event: events.CoordinatorEvent) -> None:
        for effect in self.coordinator.handle(event, self.now):
            self._of_coordinator(effect)

    def _of_agent(self, worker: int, effect: effects.AgentEffect) -> None:  # noqa: C901, PLR0912 - one case for each effect
        self.log += word(f"{worker}", effect)
        match effect:
            case effects.Tell(envelope=envelope) if worker not in self.cut:
                self._queue.append(lambda: self._coordinator(events.Received(envelope)))
            case effects.WriteShare():
                self.writes[worker].append(effect)
            case effects.LookAtJournal(ordinal=ordinal):
                sign = str(self.now) if self.chief_lives else self.holder.sign
                seen = replace(self.holder, ordinal=ordinal, sign=sign)
                self._queue.append(lambda: self._agent(worker, seen))
            case effects.TakeOver(ordinal=ordinal):
                self.takeovers[worker] = ordinal
            case effects.VerifyPart():
                self.verifies[worker] = effect
            case effects.DescribeSpecs(round=number):
                self._queue.append(lambda: self._agent(worker, events.SpecsGiven(number, self.specs[worker])))
            case effects.SetCeiling(proposal=proposal):
                ceiling = self.gates[worker].set_ceiling(proposal)
                self._queue.append(lambda: self._agent(worker, events.CeilingSet(proposal, ceiling)))
                self._queue.append(lambda: self._release(worker))
            case effects.LiftCeiling(proposal=proposal):
                self.gates[worker].lift(proposal)
                self._queue.append(lambda: self._release(worker))
            case effects.Foresee(agreed=agreed):
                self.gates[worker].foresee(agreed)
                self._queue.append(lambda: self._release(worker))
            case effects.WishResolved(answer=answer):
                self.wishes.append(answer)
            case effects.Resolve(result=result) | effects.RestoreResolved(result=result):
                self.outcomes[worker].append(result)
            case effects.SaveKept(step=step):
                self._queue.append(lambda: self._save_kept(worker, step))
            case effects.ReleaseKept(step=step):
                self.kept[worker].remove(step)
            case effects.Parted():
                self.parted.add(worker)
            case effects.DropSnapshot(ordinal=ordinal):
                self.dropped[worker].append(ordinal)
            case effects.Discard(handles=handles):
                self.discarded += handles

    def _of_coordinator(self, effect: effects.CoordinatorEffect) -> None:
        self.log += word("c", effect)
        match effect:
            case effects.Send(envelope=envelope) if envelope.receiver.worker not in self.cut:
                heard = events.Heard(envelope)
                self._queue.append(lambda: self._agent(envelope.receiver.worker, heard))
            case effects.CheckProbe(worker=worker, incarnation=incarnation):
                result = events.ProbeResult(worker, incarnation, self.probe_faults.get(worker))
                self._queue.append(lambda: self._coordinator(result))
            case effects.WishAnswered(answer=answer):
                self.wishes.append(answer)
            case effects.Log(_, text):
                self.logged.append(text)
            case effects.Commit():
                self.commits.append(effect)
            case effects.Quarantine():
                self.quarantines.append(effect)
            case effects.Discard(handles=handles):
                self.discarded += handles

    def cause(self, worker: int) -> Cause:
        """The outcome of the last request of `worker`, which is a failure."""
        last = self.outcomes[worker][-1]
        assert isinstance(last, Cause), last
        return last
