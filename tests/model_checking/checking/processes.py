"""The processes of the small job: a real Agent or Coordinator each, and what its runtime owes it.

Time stands still but for what is explicit here: a deadline that passes, a connection that breaks. Each may happen at
any moment, so every length of every wait is covered.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from distckpt.errors import Fenced, error_from
from distckpt.model import Cause, Checkpoint, FileRecord, Shard
from distckpt.protocol import effects, events
from distckpt.protocol.agent import Agent
from distckpt.protocol.coordinator import Coordinator
from distckpt.protocol.deadlines import Deadlines
from distckpt.protocol.messages import (
    AgentEnvelope,
    Alive,
    Committed,
    CoordinatorEnvelope,
    Heartbeat,
    Join,
    Sender,
)

JOB = "job"
DEADLINES = Deadlines(
    resend_s=1, heartbeat_s=inf, silence_s=inf, disconnect_s=0, join_s=inf, announce_s=1, write_s=1, commit_s=1
)
LATER_S = 10.0  # longer than any deadline above
Envelope = AgentEnvelope | CoordinatorEnvelope


class Broken(AssertionError):
    """What may never happen has happened."""


def require(condition: object, what: str) -> None:
    if not condition:
        raise Broken(what)


@dataclass
class Out:
    """What one event led to, besides a new state of its process."""

    sent: list[Envelope] = field(default_factory=list)
    discarded: list[str] = field(default_factory=list)


class Worker:
    """A training thread that saves `steps`, one after the other, and its agent. What no training survives ends it."""

    def __init__(self, generation: int, worker: int, world_size: int, steps: tuple[int, ...]) -> None:
        self.me = Sender(JOB, generation, worker, f"g{generation}w{worker}")
        self.steps = steps
        self.told: dict[int, str] = {}
        """By step: "Committed", or the kind of the cause."""
        self.writes: dict[int, int] = {}
        """By round: the step of the snapshot that is being written."""
        self.alive = True
        join = Join(world_size, "host", worker, f"probe-{worker}")
        self._agent: Agent | None = Agent(self.me, join, DEADLINES, "chief")
        self._now = 0.0
        self._snapshots: set[int] = set()

    def __getstate__(self) -> dict[str, object]:
        """Of a worker that has ended nothing matters but what it was told."""
        gone = {"alive": False, "_agent": None, "_now": 0.0, "_snapshots": set()}
        return self.__dict__ | (gone if self.ended else {})

    @property
    def ended(self) -> bool:
        """It has been told of all its saves, or has died, and writes nothing: it hears and says nothing any more."""
        return not self.writes and (not self.alive or len(self.told) == len(self.steps))

    def start(self) -> Out:
        out = self._handle(events.Started())
        self._save_next(out)
        return out

    def hear(self, envelope: CoordinatorEnvelope) -> Out:
        return self._handle(events.Heard(envelope))

    def write(self, number: int, *, well: bool) -> Out:
        """A share is written, or cannot be."""
        step = self.writes.pop(number)
        if not well:
            return self._handle(events.ShareFailed(number, Cause("WriteFailed", "no space", self.me.worker)))
        handle = f"{self.me.generation}/{number}-{self.me.incarnation}-step{step}"
        return self._handle(events.ShareWritten(number, Shard(self.me.worker, handle, 1, ())))

    def lose_patience(self) -> Out:
        """The save's deadline passes."""
        self._now += LATER_S
        return self._handle(events.Tick())

    def lose_connection(self) -> Out:
        out = self._handle(events.ConnectionLost())
        if self.alive:
            more = self._handle(events.Tick())
            out.sent += more.sent
            out.discarded += more.discarded
        return out

    def _handle(self, event: events.AgentEvent) -> Out:
        out = Out()
        if self._agent is None:
            return out
        for effect in self._agent.handle(event, self._now):
            self._do(effect, out)
        return out

    def _do(self, effect: effects.AgentEffect, out: Out) -> None:
        match effect:
            case effects.Tell(envelope):
                if not isinstance(envelope.message, Heartbeat):
                    out.sent.append(envelope)
            case effects.WriteShare(round=number, step=step, ordinal=ordinal):
                require(ordinal in self._snapshots, f"{self.me.incarnation} is to write a snapshot that was dropped")
                require(step == self.steps[ordinal - 1], f"{self.me.incarnation} is to write step {step}")
                self.writes[number] = step
            case effects.DropSnapshot(ordinal):
                require(ordinal in self._snapshots, f"{self.me.incarnation} drops a snapshot twice")
                self._snapshots.discard(ordinal)
            case effects.Discard(_, handles):
                out.discarded += handles
            case effects.Resolve(ordinal, result):
                self._resolve(ordinal, result, out)
            case effects.Stopped():
                self.alive = False
            case effects.Log():
                pass
            case _:
                raise AssertionError(f"the model does not know {effect}")

    def _resolve(self, ordinal: int, result: Committed | Cause, out: Out) -> None:
        step = self.steps[ordinal - 1]
        require(step not in self.told, f"{self.me.incarnation}: step {step} is resolved twice")
        if isinstance(result, Committed):
            require(result.checkpoint.step == step, f"{self.me.incarnation} saved {step}, told of {result.checkpoint}")
            self.told[step] = "Committed"
        else:
            self.told[step] = result.kind
            self.alive = self.alive and error_from(result).advice == "retry"
        self._save_next(out)

    def _save_next(self, out: Out) -> None:
        if self.alive and len(self.told) < len(self.steps):
            ordinal = len(self.told) + 1
            step = self.steps[ordinal - 1]
            self._snapshots.add(ordinal)
            asked = self._handle(events.SaveRequested(ordinal, step, f"ckpt-{step}", "digest", 0))
            out.sent += asked.sent
            out.discarded += asked.discarded


class Chief:
    """A coordinator, and the commits that it has ordered: `order` is not yet in the journal, `outcome` not yet told."""

    def __init__(self, generation: int, world_size: int, live: tuple[Checkpoint, ...]) -> None:
        self.generation = generation
        self.order: effects.Commit | None = None
        self.outcome: events.CommitDone | events.CommitFailed | None = None
        self._coordinator = Coordinator(JOB, generation, world_size, DEADLINES, live)
        self._now = 0.0

    def hear(self, envelope: AgentEnvelope) -> Out:
        return self._handle(events.Received(envelope))

    def lose(self, worker: int) -> Out:
        """The connection of `worker` broke, and it has not come back in time."""
        out = self._handle(events.Disconnected(worker, f"g{self.generation}w{worker}"))
        more = self._handle(events.Tick())
        return Out(out.sent + more.sent, out.discarded + more.discarded)

    def pass_deadline(self) -> Out:
        self._now += LATER_S
        return self._handle(events.Tick())

    def hear_outcome(self) -> Out:
        outcome, self.outcome = self.outcome, None
        assert outcome is not None
        return self._handle(outcome)

    def checkpoint(self) -> Checkpoint:
        """What the ordered commit makes."""
        assert self.order is not None
        files = tuple(FileRecord(f"{self.order.name}.{s.worker}", s.size_bytes, s.handle) for s in self.order.shards)
        return Checkpoint(self.order.name, self.order.step, 0.0, self.generation, files, "sha")

    def committed(self) -> None:
        assert self.order is not None
        self.outcome, self.order = events.CommitDone(self.order.round, self.checkpoint()), None

    def not_committed(self, error: Exception, *, fatal: bool) -> None:
        assert self.order is not None
        kind = "Fenced" if isinstance(error, Fenced) else type(error).__name__
        self.outcome = events.CommitFailed(self.order.round, Cause(kind, str(error), 0), fatal)
        self.order = None

    def _handle(self, event: events.CoordinatorEvent) -> Out:
        out = Out()
        for effect in self._coordinator.handle(event, self._now):
            match effect:
                case effects.Send(envelope):
                    if not isinstance(envelope.message, Alive):
                        out.sent.append(envelope)
                case effects.CheckProbe(worker, incarnation, _):
                    more = self._handle(events.ProbeResult(worker, incarnation))
                    out.sent += more.sent
                case effects.Commit():
                    self._take_order(effect)
                case effects.Discard(_, handles):
                    out.discarded += handles
                case effects.Log():
                    pass
                case _:
                    raise AssertionError(f"the model does not know {effect}")
        return out

    def _take_order(self, order: effects.Commit) -> None:
        require(self.order is None, "two commits are ordered at once")
        steps = {shard.handle.rpartition("step")[2] for shard in order.shards}
        require(steps == {str(order.step)}, f"I1: shards of steps {steps} are committed as {order.step}")
        self.order = order
