"""A worker of the small job: a training thread as simple as can be, its real Agent, and what the runtime owes both."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from checking.processes import DEADLINES, JOB, LATER_S, SPECS, Out, require
from distckpt.errors import error_from
from distckpt.model import Cause, Checkpoint, Entry, FileRecord, Piece, Shard
from distckpt.protocol import effects, events
from distckpt.protocol.agent import Agent, Standing
from distckpt.protocol.messages import Aborted, Committed, CoordinatorEnvelope, Heartbeat, Join, Sender
from distckpt.protocol.plan import plan


@dataclass(frozen=True, slots=True)
class Course:
    """What a training does: it ends `ends` steps, the first is 1, and keeps a snapshot of every `every`-th. It saves
    those of `saves`, each when it has ended, and waits then until the save before is over; without `ends` they are
    saved one after the other. `parts`: in the end the manager is closed.
    """

    saves: tuple[int, ...]
    ends: int = 0
    every: int = 1
    parts: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """A save that was asked for: of what was kept, or by the training."""

    step: int
    salvage: bool


class Worker:
    def __init__(self, generation: int, worker: int, world_size: int, course: Course) -> None:
        self.me = Sender(JOB, generation, worker, f"g{generation}w{worker}")
        self.course = course
        self.asked: tuple[Asked, ...] = ()
        """By ordinal, from 1."""
        self.told: dict[int, str] = {}
        """By ordinal: "Committed", or the kind of the cause."""
        self.aborted: dict[int, int] = {}
        """By ordinal: the round that it was told was given up."""
        self.writes: dict[tuple[int, int], effects.WriteShare] = {}
        """What is being written, by round and number of the share."""
        self.alive = True
        self.look: effects.LookAtJournal | None = None
        self.order: effects.TakeOver | None = None
        """A takeover that is asked for; `heir` is the generation that it has begun, 0 before that."""
        self.heir = 0
        self.at = 0
        """The last step that has ended here."""
        self.kept: set[int] = set()
        self.tried: set[int] = set()
        """Steps of whose snapshots saves have begun: there is one attempt."""
        self.is_parting = False
        self.parted_with: tuple[int, ...] = ()
        """What was kept still when this worker was told that it may go, while it was joined."""
        join = Join(world_size, "host", worker, f"probe-{worker}")
        self._agent: Agent | None = Agent(self.me, join, DEADLINES, "chief")
        self._now = 0.0
        self._snapshots: set[int] = set()
        self._posted: deque[events.AgentEvent] = deque()

    def __getstate__(self) -> dict[str, object]:
        """Of a worker that has ended nothing matters but what it was told."""
        gone = {"alive": False, "_agent": None, "_now": 0.0, "_snapshots": set(), "look": None, "order": None}
        return self.__dict__ | (gone if self.ended else {})

    @property
    def ended(self) -> bool:
        """It has been told of all its saves, or has died, and writes nothing: it hears and says nothing any more."""
        return not self.writes and (not self.alive or (not self.course.ends and self._is_over))

    @property
    def _is_over(self) -> bool:
        """The training is."""
        return self.at == self.course.ends and self._saved == len(self.course.saves) and not self.waits

    @property
    def _saved(self) -> int:
        return sum(not each.salvage for each in self.asked)

    @property
    def waits(self) -> bool:
        """For the outcome of a save."""
        return len(self.told) < len(self.asked)

    # ------------------------------------------------------------------------------------------------ what it may do

    @property
    def may_end_step(self) -> bool:
        """As far as it is concerned; a step needs all others, too."""
        due = self.course.saves[self._saved : self._saved + 1]
        return self.alive and self.at < self.course.ends and not (due and due[0] <= self.at)

    @property
    def may_part(self) -> bool:
        return self.alive and self.course.parts and self._is_over and not self.is_parting

    @property
    def may_lose(self) -> bool:
        """Whether it notices that the coordinator is gone."""
        return self.alive and (self.waits or bool(self.course.ends))

    def start(self) -> Out:
        return self._handle(events.Started())

    def end_step(self) -> Out:
        self.at += 1
        if self.at % self.course.every == 0:
            self.kept.add(self.at)
            self._posted.append(events.Kept(self.at))
        return self._handle(events.Progress(self.at))

    def part(self) -> Out:
        self.is_parting = True
        return self._handle(events.Parting())

    def hear(self, envelope: CoordinatorEnvelope) -> Out:
        message = envelope.message
        if isinstance(message, Aborted) and message.ordinal not in self.told:
            self.aborted[message.ordinal] = message.round
        return self._handle(events.Heard(envelope))

    def write(self, number: int, share: int, *, well: bool) -> Out:
        """A share is written, or cannot be."""
        asked = self.writes.pop((number, share))
        if not well:
            cause = Cause("WriteFailed", "no space", self.me.worker)
            return self._handle(events.ShareFailed(number, share, cause))
        handle = f"{self.me.generation}/{number}-{share}-{self.me.incarnation}-{self._content(asked.ordinal)}"
        return self._handle(events.ShareWritten(number, share, self._shard(asked, handle)))

    def lose_patience(self) -> Out:
        """The save's deadline passes."""
        self._now += LATER_S
        return self._handle(events.Tick())

    def lose_connection(self) -> Out:
        out = self._handle(events.ConnectionLost())
        return self._miss_coordinator(out)

    def _miss_coordinator(self, out: Out) -> Out:
        """It has been silent for long enough."""
        asked = -1
        while self.alive and len(self.asked) != asked:
            asked = len(self.asked) if self.course.ends else -1
            more = self._handle(events.Tick())
            out.sent += more.sent
            out.discarded += more.discarded
            if not self.course.ends:
                break
        return out

    # ------------------------------------------------------------------------------------------------ as a survivor

    def journal_seen(self, event: events.JournalSeen) -> Out:
        self.look = None
        out = self._handle(event)
        return self._miss_coordinator(out) if self.course.ends else out

    def takeover_ended(self, committed: Checkpoint | None, cause: Cause | None = None) -> Out:
        assert self.order is not None
        order, self.order, self.heir = self.order, None, 0
        return self._handle(events.TakeOverEnded(order.ordinal, committed, cause))

    @property
    def taken(self) -> Asked:
        """The save that a takeover is to commit."""
        assert self.order is not None
        return self.asked[self.order.ordinal - 1]

    def checkpoint(self) -> Checkpoint:
        """What a takeover commits: the whole snapshot, in one shard."""
        assert self.order is not None
        require(self.order.ordinal in self._snapshots, f"{self.me.incarnation} takes a save over without its snapshot")
        step, content = self.taken.step, self._content(self.order.ordinal)
        file = FileRecord(f"ckpt-{step}.0", 24, f"{self.heir}/{self.order.round}-all-{self.me.incarnation}-{content}")
        return Checkpoint(f"ckpt-{step}", step, 0.0, self.heir, (file,), "sha")

    # ---------------------------------------------------------------------------------------------------- its agent

    def _content(self, ordinal: int) -> str:
        """In the names of files: what is in them."""
        asked = self.asked[ordinal - 1]
        return f"{'kept-' if asked.salvage else ''}step{asked.step}"

    def _shard(self, asked: effects.WriteShare, handle: str) -> Shard:
        pieces = plan(SPECS, asked.own_bytes, asked.splits, asked.weights)[asked.share].pieces
        entries = tuple(_entry(piece) for piece in pieces)
        return Shard(self.me.worker, handle if entries else "", sum(entry.size_bytes for entry in entries), entries)

    def _handle(self, event: events.AgentEvent) -> Out:
        out = Out()
        if self._agent is None:
            return out
        self._posted.append(event)
        while self._posted:
            for effect in self._agent.handle(self._posted.popleft(), self._now):
                self._do(effect, out)
            if not self._posted:
                self._save_next()
        self._beat(out)
        return out

    def _beat(self, out: Out) -> None:
        """A heartbeat says how things are now; it arrives at any time, so it need not be sent again."""
        agent = self._agent
        if agent is None or not self.course.ends or agent.standing is not Standing.JOINED:
            return
        require(set(agent._keeping.steps) == self.kept, f"{self.me.incarnation} does not keep what its agent says")
        beat = agent._outbox.begin(self._now)
        agent._beat()
        for effect in beat:
            assert isinstance(effect, effects.Tell)
            assert isinstance(effect.envelope.message, Heartbeat)
            out.sent.append(replace(effect.envelope, message=replace(effect.envelope.message, step=-1)))

    def _do(self, effect: effects.AgentEffect, out: Out) -> None:  # noqa: C901, PLR0912 - one case for each effect
        match effect:
            case effects.Tell(envelope=envelope):
                if not isinstance(envelope.message, Heartbeat):
                    out.sent.append(envelope)
            case effects.WriteShare(round=number, step=step, ordinal=ordinal, share=share):
                require(ordinal in self._snapshots, f"{self.me.incarnation} is to write a snapshot that was dropped")
                require(step == self.asked[ordinal - 1].step, f"{self.me.incarnation} is to write step {step}")
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
                self._resolve(ordinal, result)
            case effects.SaveKept(step=step):
                require(
                    step in self.kept, f"{self.me.incarnation} is to save the end of step {step}, which is not kept"
                )
                self.kept.discard(step)
                self.tried.add(step)
                self._request(step, salvage=True)
            case effects.ReleaseKept(step=step):
                require(step in self.kept, f"{self.me.incarnation} releases the end of {step}, which is not kept")
                self.kept.discard(step)
            case effects.Parted():
                joined = self._agent is not None and self._agent.standing is Standing.JOINED
                self.parted_with = tuple(sorted(self.kept)) if joined else ()
                self._posted.append(events.Stop())
            case effects.Stopped():
                self.alive = False
            case effects.Log():
                pass
            case _:
                raise AssertionError(f"the model does not know {effect}")

    def _resolve(self, ordinal: int, result: Committed | Cause) -> None:
        asked = self.asked[ordinal - 1]
        require(ordinal not in self.told, f"{self.me.incarnation}: save {ordinal} is resolved twice")
        if isinstance(result, Committed):
            made = result.checkpoint
            require(made.step == asked.step, f"{self.me.incarnation} saved {asked.step}, told of {made}")
            self.told[ordinal] = "Committed"
        else:
            self.told[ordinal] = result.kind
            if not asked.salvage:
                self.alive = self.alive and error_from(result).advice == "retry"

    def _save_next(self) -> None:
        """The training saves what is due, unless a save is under way."""
        due = self.course.saves[self._saved : self._saved + 1]
        if self.alive and due and not self.waits and (due[0] <= self.at or not self.course.ends):
            self._request(due[0], salvage=False)

    def _request(self, step: int, *, salvage: bool) -> None:
        self.asked += (Asked(step, salvage),)
        ordinal = len(self.asked)
        self._snapshots.add(ordinal)
        self._posted.append(events.SaveRequested(ordinal, step, f"ckpt-{step}", "digest", 0, salvage=salvage))


def _entry(piece: Piece) -> Entry:
    (spec,) = SPECS
    part = None if piece.rows is None else (piece.rows,)
    return Entry(spec.name, spec.dtype, spec.shape, 0, piece.size_bytes, 0, part)
