"""The processes of the small job: a real Agent (workers.py) or Coordinator each, and what its runtime owes it.

Time stands still but for what is explicit here: a deadline that passes, a connection that breaks. Each may happen at
any moment, so every length of every wait is covered.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from distckpt.bundle.coverage import check_coverage
from distckpt.errors import cause_of
from distckpt.model import Checkpoint, FileRecord, TensorSpec
from distckpt.protocol import effects, events
from distckpt.protocol.coordinator import Coordinator
from distckpt.protocol.deadlines import Deadlines
from distckpt.protocol.messages import AgentEnvelope, Alive, CoordinatorEnvelope

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
MOMENT_S = 0.001  # shorter than all of them: what comes after a loss is told from what came before
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


class Chief:
    """A coordinator, and the commits that it has ordered: `order` is not yet in the journal, `outcome` not yet told.
    `salvages`: it is a job in which something is kept.
    """

    def __init__(self, generation: int, world_size: int, live: tuple[Checkpoint, ...], *, salvages: bool) -> None:
        self.generation = generation
        self._moment_s = MOMENT_S if salvages else 0.0
        self.order: effects.Commit | None = None
        self.outcome: events.CommitDone | events.CommitFailed | None = None
        self._coordinator = Coordinator(JOB, generation, world_size, DEADLINES, live)
        self._now = 0.0

    def hear(self, envelope: AgentEnvelope) -> Out:
        return self._handle(events.Received(envelope))

    def lose(self, worker: int) -> Out:
        """The connection of `worker` broke, and it has not come back in time."""
        self._now += self._moment_s
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
                    if envelope.message != Alive():  # of which nothing follows that does not of any other message
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
