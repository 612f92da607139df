"""The processes of the small job: a real Agent or Coordinator each, and what its runtime owes it.

Time stands still but for what is explicit here: a deadline that passes, a connection that breaks. Each may happen at
any moment, so every length of every wait is covered.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from distckpt.bundle.coverage import check_coverage
from distckpt.errors import cause_of, error_from
from distckpt.model import Cause, Checkpoint, Entry, FileRecord, Piece, Shard, TensorSpec
from distckpt.protocol import effects, events
from distckpt.protocol.agent import Agent
from distckpt.protocol.coordinator import Coordinator
from distckpt.protocol.deadlines import Deadlines
from distckpt.protocol.messages import (
    Aborted,
    AgentEnvelope,
    Alive,
    Committed,
    CoordinatorEnvelope,
    Heartbeat,
    Join,
    Sender,
)
from distckpt.protocol.plan import plan

JOB = "job"
DEADLINES = Deadlines(
    resend_s=1,
    heartbeat_s=inf,
    silence_s=inf,
    disconnect_s=0,
    join_s=inf,
    announce_s=50,
    write_s=50,
    straggler_s=1,
    turn_s=0,
    commit_s=1,
)
LATE_S = 2.0  # longer than `straggler_s`, and several times within any other deadline
LATER_S = 200.0  # longer than any deadline above
SPECS = (TensorSpec("kernel", 1, (6,), 24, divisible=True),)
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
        self.aborted: dict[int, int] = {}
        """By step: the round that it was told was given up."""
        self.writes: dict[tuple[int, int], effects.WriteShare] = {}
        """What is being written, by round and number of the share."""
        self.alive = True
        self.look: effects.LookAtJournal | None = None
        self.order: effects.TakeOver | None = None
        """A takeover that is asked for; `heir` is the generation that it has begun, 0 before that."""
        self.heir = 0
        join = Join(world_size, "host", worker, f"probe-{worker}")
        self._agent: Agent | None = Agent(self.me, join, DEADLINES, "chief")
        self._now = 0.0
        self._snapshots: set[int] = set()

    def __getstate__(self) -> dict[str, object]:
        """Of a worker that has ended nothing matters but what it was told."""
        gone = {"alive": False, "_agent": None, "_now": 0.0, "_snapshots": set(), "look": None, "order": None}
        return self.__dict__ | (gone if self.ended else {})

    @property
    def ended(self) -> bool:
        """It has been told of all its saves, or has died, and writes nothing: it hears and says nothing any more."""
        return not self.writes and (not self.alive or len(self.told) == len(self.steps))

    def journal_seen(self, event: events.JournalSeen) -> Out:
        self.look = None
        return self._handle(event)

    def takeover_ended(self, committed: Checkpoint | None, cause: Cause | None = None) -> Out:
        assert self.order is not None
        order, self.order, self.heir = self.order, None, 0
        return self._handle(events.TakeOverEnded(order.ordinal, committed, cause))

    def checkpoint(self) -> Checkpoint:
        """What a takeover commits: the whole snapshot, in one shard."""
        assert self.order is not None
        require(self.order.ordinal in self._snapshots, f"{self.me.incarnation} takes a save over without its snapshot")
        step = self.steps[self.order.ordinal - 1]
        file = FileRecord(f"ckpt-{step}.0", 24, f"{self.heir}/{self.order.round}-all-{self.me.incarnation}-step{step}")
        return Checkpoint(f"ckpt-{step}", step, 0.0, self.heir, (file,), "sha")

    def start(self) -> Out:
        out = self._handle(events.Started())
        self._save_next(out)
        return out

    def hear(self, envelope: CoordinatorEnvelope) -> Out:
        message = envelope.message
        if isinstance(message, Aborted) and self.steps[message.ordinal - 1] not in self.told:
            self.aborted[self.steps[message.ordinal - 1]] = message.round
        return self._handle(events.Heard(envelope))

    def write(self, number: int, share: int, *, well: bool) -> Out:
        """A share is written, or cannot be."""
        asked = self.writes.pop((number, share))
        if not well:
            cause = Cause("WriteFailed", "no space", self.me.worker)
            return self._handle(events.ShareFailed(number, share, cause))
        shard = self._shard(asked, f"{self.me.generation}/{number}-{share}-{self.me.incarnation}-step{asked.step}")
        return self._handle(events.ShareWritten(number, share, shard))

    def _shard(self, asked: effects.WriteShare, handle: str) -> Shard:
        pieces = plan(SPECS, asked.own_bytes, asked.splits, asked.weights)[asked.share].pieces
        entries = tuple(_entry(piece) for piece in pieces)
        return Shard(self.me.worker, handle if entries else "", sum(entry.size_bytes for entry in entries), entries)

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

    def _do(self, effect: effects.AgentEffect, out: Out) -> None:  # noqa: C901 - one case for each effect
        match effect:
            case effects.Tell(envelope=envelope):
                if not isinstance(envelope.message, Heartbeat):
                    out.sent.append(envelope)
            case effects.WriteShare(round=number, step=step, ordinal=ordinal, share=share):
                require(ordinal in self._snapshots, f"{self.me.incarnation} is to write a snapshot that was dropped")
                require(step == self.steps[ordinal - 1], f"{self.me.incarnation} is to write step {step}")
                require((number, share) not in self.writes, f"{self.me.incarnation} is to write share {share} twice")
                self.writes[number, share] = effect
            case effects.LookAtJournal():
                self.look = effect
            case effects.TakeOver():
                self.order = effect
            case effects.DropSnapshot(ordinal=ordinal):
                require(ordinal in self._snapshots, f"{self.me.incarnation} drops a snapshot twice")
                writing = any(each.ordinal == ordinal for each in self.writes.values())
                require(not writing, f"{self.me.incarnation} drops a snapshot that is being written")
                self._snapshots.discard(ordinal)
            case effects.Discard(handles=handles):
                out.discarded += handles
            case effects.Resolve(ordinal=ordinal, result=result):
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

    def grow_impatient(self) -> Out:
        """Whoever has not written by now is late."""
        self._now += LATE_S
        return self._handle(events.Tick())

    def pass_deadline(self) -> Out:
        """The deadline of a round passes."""
        self._now += LATER_S
        return self._handle(events.Tick())

    def hear_outcome(self) -> Out:
        outcome, self.outcome = self.outcome, None
        assert outcome is not None
        return self._handle(outcome)

    def checkpoint(self) -> Checkpoint:
        """What the ordered commit makes."""
        assert self.order is not None
        named = [shard for shard in self.order.shards if shard.handle]
        files = tuple(FileRecord(f"{self.order.name}.{n}", s.size_bytes, s.handle) for n, s in enumerate(named))
        return Checkpoint(self.order.name, self.order.step, 0.0, self.generation, files, "sha")

    def committed(self) -> None:
        assert self.order is not None
        self.outcome, self.order = events.CommitDone(self.order.round, self.checkpoint()), None

    def not_committed(self, error: Exception, *, fatal: bool) -> None:
        assert self.order is not None
        self.outcome = events.CommitFailed(self.order.round, cause_of(error, 0), fatal)
        self.order = None

    def _handle(self, event: events.CoordinatorEvent) -> Out:
        out = Out()
        for effect in self._coordinator.handle(event, self._now):
            match effect:
                case effects.Send(envelope=envelope):
                    if not isinstance(envelope.message, Alive):
                        out.sent.append(envelope)
                case effects.CheckProbe(worker=worker, incarnation=incarnation):
                    more = self._handle(events.ProbeResult(worker, incarnation))
                    out.sent += more.sent
                case effects.Commit():
                    self._take_order(effect)
                case effects.Discard(handles=handles):
                    out.discarded += handles
                case effects.Log():
                    pass
                case _:
                    raise AssertionError(f"the model does not know {effect}")
        return out

    def _take_order(self, order: effects.Commit) -> None:
        require(self.order is None, "two commits are ordered at once")
        check_coverage([shard.entries for shard in order.shards], SPECS)
        steps = {shard.handle.rpartition("step")[2] for shard in order.shards if shard.handle}
        require(steps == {str(order.step)}, f"I1: shards of steps {steps} are committed as {order.step}")
        self.order = order


def _entry(piece: Piece) -> Entry:
    (spec,) = SPECS
    part = None if piece.rows is None else (piece.rows,)
    return Entry(spec.name, spec.dtype, spec.shape, 0, piece.size_bytes, 0, part)
