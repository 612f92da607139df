"""The agent as it runs on every worker: `protocol.agent` in a loop, its shares written and verified on a lane.

The training thread asks (`begin_save`, `captured`, `begin_restore`) and waits on tickets; it never runs the protocol,
so a training thread that sits inside a collective holds nobody up.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from distckpt.bundle.loader import Loader
from distckpt.bundle.parallel import readers
from distckpt.bundle.payload import Payload
from distckpt.bundle.writer import write_share
from distckpt.commit.verification import read_manifest, under_own_names, verify_states
from distckpt.errors import DistckptError, FatalError, ManagerClosed, OutcomeUnknown, cause_of, error_from
from distckpt.model import CHIEF, Cause, DataFile, Entry, Shard, Share, TensorSpec
from distckpt.options import Options
from distckpt.protocol import effects, events
from distckpt.protocol.agent import Agent
from distckpt.protocol.messages import (
    AgentEnvelope,
    Agreed,
    Committed,
    CoordinatorEnvelope,
    Heartbeat,
    RestoreDecided,
    Sender,
    Welcome,
    Wish,
)
from distckpt.protocol.plan import plan
from distckpt.protocol.staged import FROZEN, staged_name
from distckpt.runtime.activity import ActivityMeter, MeteredFile
from distckpt.runtime.cross_check import CrossChecker
from distckpt.runtime.in_hand import InHand
from distckpt.runtime.lane import Lane
from distckpt.runtime.loop import Loop
from distckpt.runtime.observer import Observer, Tapped
from distckpt.runtime.pace import Following, Pace
from distckpt.runtime.salvage import KeptSnapshot, KeptSnapshots
from distckpt.runtime.staging import discard_all
from distckpt.runtime.successor import Successor
from distckpt.runtime.ticket import RestoreTicket, SaveRequest, SaveTicket, Snapshot, StateSnapshot, Ticket, WishTicket
from distckpt.runtime.unchanged import Sorted, Unchanged, stage
from distckpt.runtime.worker_state import stage_state
from distckpt.storage.interface import StagedFile, Storage
from distckpt.storage.sealing import sealed

log = logging.getLogger("distckpt.agent")

FAULTS_TOLD_MAX = 3
PATIENCE_S = 5.0
"""So much longer than the protocol's own deadlines a ticket waits: it is the agent that says what went wrong."""


class AgentRuntime:
    """Runs `machine`. `tell` sends to the coordinator without waiting; `on_commit` hears of every commit (loop's
    thread). `observer` is shown all that passes.

    `welcome` resolves when the coordinator has taken this worker in.
    """

    def __init__(
        self,
        machine: Agent,
        me: Sender,
        storage: Storage,
        options: Options,
        tell: Callable[[AgentEnvelope], None],
        on_commit: Callable[[SaveTicket, Committed], None],
        observer: Observer | None = None,
        successor: Successor | None = None,
    ) -> None:
        self._me = me
        self._successor = successor
        self._storage = storage
        self._deadlines = deadlines = options.deadlines
        self._save_patience_s = deadlines.save_s + deadlines.takeover_s + deadlines.join_s + PATIENCE_S
        self._tell = tell
        self._threads = options.writer_threads
        self._unchanged = Unchanged(storage, me.generation, self._threads) if options.link_unchanged else None
        self._checker = CrossChecker(options.cross_check, me.worker, me.generation, options.writer_threads)
        self._on_commit = on_commit
        self._lock = threading.Lock()
        self._ordinal = 0
        self._saves: dict[int, SaveTicket] = {}
        self._specs: tuple[str, Sequence[TensorSpec]] = "", ()
        self._restores: dict[int, RestoreTicket] = {}
        self._wishes: dict[int, WishTicket] = {}
        self._wish_count = 0
        self._pace = Pace(options.deadlines.held_s + PATIENCE_S, observed=observer is not None)
        self._stopped: DistckptError | None = None
        self.welcome: Ticket[Welcome] = Ticket(0, "joining the job", options.deadlines.join_s + PATIENCE_S)
        self._snapshot_every = options.snapshot_every
        self._kept = KeptSnapshots()
        self._salvaging: SaveTicket | None = None
        self._parted = threading.Event()
        self._ended = threading.Event()
        self._activity = ActivityMeter()
        self._in_hand = InHand(os.environ)
        self._lane = Lane("agent-io")
        following = Following(machine, self._pace)
        self._loop: Loop[events.AgentEvent, effects.AgentEffect] = Loop(
            "agent",
            following if observer is None else Tapped(following, lambda *_: self._show_steps(observer)),
            events.Tick(),
            self._perform,
            self._crashed,
        )

    def start(self) -> None:
        self._loop.start()
        self._loop.post(events.Started())

    # --------------------------------------------------------------------------------------- from the training thread

    def step_ended(self, step: int) -> Agreed | None:
        """Tells how far the training is; the save that was agreed on, if this is where it is to be taken.

        While a step is being agreed on the training is held here, for `Deadlines.held_s` at most.
        """
        return self._pace.step_ended(step)

    def wish(self, wish: Wish) -> WishTicket:
        """Wants a save that no worker foresaw; from any thread. An answer without a checkpoint is no error here."""
        with self._lock:
            if self._stopped is not None:
                raise self._stopped
            self._wish_count += 1
            patience_s = wish.within_s + self._deadlines.silence_s + PATIENCE_S
            ticket = WishTicket(self._wish_count, f"the save for {wish.reason}", patience_s)
            self._wishes[ticket.ordinal] = ticket
        self._loop.post(events.WishMade(ticket.ordinal, wish))
        return ticket

    def begin_save(
        self, request: SaveRequest, snapshot: Snapshot | None, state: StateSnapshot | None = None
    ) -> SaveTicket:
        """Announces a save. Without a snapshot, `ticket.decided` says when all workers are there and it may be
        taken. `state` is what only this worker has.
        """
        with self._no_salvage():
            return self._announce(request, snapshot, state)

    def _announce(self, request: SaveRequest, snapshot: Snapshot | None, state: StateSnapshot | None) -> SaveTicket:
        """Under the lock: requests are posted in the order of their ordinals."""
        what = f"the {'salvage' if request.salvage else 'save'} of step {request.step}"
        ordinal = self._next_ordinal()
        self._specs = request.digest, request.specs
        ticket = SaveTicket(request, Ticket(ordinal, what, self._save_patience_s), snapshot, state)
        self._saves[ordinal] = ticket
        self._in_hand.begin(what)
        self._loop.post(
            events.SaveRequested(
                ordinal,
                request.step,
                request.name,
                request.digest,
                request.own_bytes,
                request.metrics,
                captured=snapshot is not None,
                salvage=request.salvage,
            )
        )
        return ticket

    @contextmanager
    def _no_salvage(self) -> Iterator[None]:
        """The lock, while no salvage is under way: the training's own save waits for one that the agent has begun."""
        while True:
            with self._lock:
                salvaging = self._salvaging
                if salvaging is None or salvaging.outcome.done():
                    yield
                    return
            if not salvaging.outcome.wait():
                raise OutcomeUnknown(f"{salvaging.outcome.what} has not ended; this is a bug in distckpt")

    def keep(self, kept: KeptSnapshot) -> None:
        """Keeps a snapshot of the end of a step for as long as the protocol wants it."""
        with self._lock:
            if self._stopped is not None:
                kept.release()
                return
            if not self._kept.held:
                self._in_hand.begin("what is kept of the last steps")
            self._kept.add(kept)
            self._loop.post(events.Kept(kept.request.step))

    def captured(self, ticket: SaveTicket, snapshot: Snapshot) -> None:
        """Hands in the snapshot of a save that was announced without one."""
        ticket.snapshot = snapshot
        self._loop.post(events.Captured(ticket.outcome.ordinal))

    def refuse_save(self, error: BaseException) -> None:
        """Tells all workers that this one cannot take part in the save that they are at."""
        with self._no_salvage():
            ordinal = self._next_ordinal()
            self._loop.post(events.SaveFailedLocally(ordinal, cause_of(error, self._me.worker)))

    def capture_failed(self, ticket: SaveTicket, error: BaseException) -> None:
        """Tells all workers that this one could not capture."""
        self._loop.post(events.SaveFailedLocally(ticket.outcome.ordinal, cause_of(error, self._me.worker)))

    def held(self, ticket: SaveTicket, seconds: float) -> None:
        """That save has let the training thread go, after `seconds`."""
        ticket.blocked_s = seconds
        self._activity.held(ticket.outcome.ordinal, ticket.request.step, seconds)

    def begin_restore(self, selector: str, *, whole: bool = True) -> RestoreTicket:
        """Asks which checkpoint all workers restore; see `messages.RestoreRequest` for `selector`. `whole`: this worker
        will take all of it, so it reads all of it, once, to verify it; else only its part of the bytes.
        """
        with self._lock:
            ordinal = self._next_ordinal()
            what = f"the decision which checkpoint to restore ({selector})"
            patience_s = self._deadlines.restore_s + self._deadlines.silence_s + self._deadlines.join_s + PATIENCE_S
            ticket = self._restores[ordinal] = RestoreTicket(Ticket(ordinal, what, patience_s), whole)
            self._loop.post(events.RestoreRequested(ordinal, selector))
        return ticket

    def loader(self, name: str) -> Loader:
        """Reads the checkpoint with the prefix `name`, on any thread."""
        return Loader(self._storage, name, readers())

    def specs_of(self, digest: str) -> Sequence[TensorSpec] | None:
        """The specs that this is the digest of, if they are those of the last save that was asked for."""
        with self._lock:
            known, specs = self._specs
        return specs if known == digest else None

    def drain(self) -> None:
        """Waits until every save that was announced has its outcome, as long as the deadlines allow."""
        with self._lock:
            saves = list(self._saves.values())
        for save in saves:
            save.outcome.wait()

    def stop(self, timeout_s: float) -> None:
        """Leaves the job, once nobody needs what was kept here. What is still outstanding is resolved with an error."""
        self._part()
        self._loop.post(events.Stop())
        self._ended.wait(timeout_s)
        self._loop.close(timeout_s)
        self._lane.close(timeout_s)
        if self._successor is not None:
            self._successor.close(timeout_s)

    def _part(self) -> None:
        """Stays for as long as the others, or the dying job, need what is kept here."""
        if self._snapshot_every is None:
            return
        if self._pace.last < 0:
            log.warning("Options(snapshot_every=%d) has kept nothing: step_end was never called", self._snapshot_every)
        self._loop.post(events.Parting())
        self._parted.wait(self._deadlines.part_s + self._save_patience_s)

    # ---------------------------------------------------------------------------------------------- from the connection

    def heard(self, envelope: CoordinatorEnvelope) -> None:
        if isinstance(envelope.message, Welcome) and envelope.receiver == self._me:
            self.welcome.resolve(envelope.message)
        self._loop.post(events.Heard(envelope))

    def connected(self) -> None:
        self._loop.post(events.ConnectionMade())

    def disconnected(self) -> None:
        self._loop.post(events.ConnectionLost())

    # -------------------------------------------------------------------------------------------------- loop's thread

    def _next_ordinal(self) -> int:
        if self._stopped is not None:
            raise self._stopped
        self._ordinal += 1
        return self._ordinal

    def _perform(self, effect: effects.AgentEffect) -> None:  # noqa: C901, PLR0912 - one case for each effect
        match effect:
            case effects.Tell(envelope):
                self._tell(self._with_activity(envelope))
            case effects.Proceed(ordinal):
                self._saves[ordinal].decided.set()
            case effects.WriteShare():
                self._lane.submit(lambda: self._write_share(effect))
            case effects.DescribeSpecs(round_, ordinal):
                self._loop.post(events.SpecsGiven(round_, tuple(self._saves[ordinal].request.specs)))
            case effects.LookAtJournal() | effects.TakeOver():
                assert self._successor is not None, "the chief's own agent does not lose its coordinator"
                self._successor.perform(effect, self._saves[effect.ordinal], self._loop.post)
            case effects.DropSnapshot(ordinal):
                self._drop_snapshot(ordinal)
            case effects.SaveKept(step):
                self._salvage(step)
            case effects.ReleaseKept(step):
                with self._lock:
                    self._kept.take(step).release()
                self._ended_in_hand()
            case effects.Parted():
                self._parted.set()
            case effects.Resolve(ordinal, result):
                self._resolve_save(ordinal, result)
            case effects.VerifyPart():
                self._lane.submit(lambda: self._verify_part(effect))
            case effects.RestoreResolved(ordinal, result):
                self._resolve_restore(ordinal, result)
            case effects.Discard(_, handles):
                self._lane.submit(lambda: discard_all(self._storage, handles))
            case effects.SetCeiling(proposal):
                self._loop.post(events.CeilingSet(proposal, self._pace.set_ceiling(proposal)))
            case effects.LiftCeiling(proposal):
                self._pace.move(lambda gate: gate.lift(proposal))
            case effects.Foresee(agreed):
                self._pace.move(lambda gate: gate.foresee(agreed))
            case effects.WishResolved(answer):
                self._wishes.pop(answer.number).resolve(answer)
            case effects.Stopped(cause):
                self._stop_with(error_from(cause) if cause else None)
            case effects.Log(level, text):
                getattr(log, level)(text)

    def _salvage(self, step: int) -> None:
        """Requests a save of what was kept, unless the training thread was faster with one of its own."""
        with self._lock:
            kept = self._kept.take(step)
            if all(save.outcome.done() for save in self._saves.values()):
                log.warning("salvaging the end of step %d, which was kept in memory: the job has lost a worker", step)
                self._salvaging = self._announce(kept.request, kept.snapshot, kept.state)
            else:
                kept.release()

    def _ended_in_hand(self) -> None:
        """A save has its outcome, or a snapshot was released: it may have been all that is undone."""
        with self._lock:
            if not self._kept.held and all(save.outcome.done() for save in self._saves.values()):
                self._in_hand.end()

    def _with_activity(self, envelope: AgentEnvelope) -> AgentEnvelope:
        if not isinstance(envelope.message, Heartbeat):
            return envelope
        return replace(envelope, message=replace(envelope.message, activity=self._activity.read()))

    def _show_steps(self, observer: Observer) -> None:
        ended = self._pace.take_ended()
        if ended:
            observer.steps_ended(ended)

    def _resolve_save(self, ordinal: int, result: Committed | Cause) -> None:
        ticket = self._saves[ordinal]
        if isinstance(result, Cause):
            log.error("%s failed: %s", ticket.outcome.what, result.message)
            ticket.outcome.fail(error_from(result))
        else:
            self._on_commit(ticket, result)
            ticket.outcome.resolve(result)
        self._ended_in_hand()
        ticket.decided.set()
        if ticket.snapshot is None:
            self._drop_state(ticket)
            del self._saves[ordinal]

    def _resolve_restore(self, ordinal: int, result: RestoreDecided | Cause) -> None:
        with self._lock:
            outcome = self._restores.pop(ordinal).outcome
        if isinstance(result, Cause):
            outcome.fail(error_from(result))
        else:
            outcome.resolve(result)

    def _drop_snapshot(self, ordinal: int) -> None:
        """The ticket goes when both this and its Resolve have been said; a capture that came too late finds it gone."""
        ticket = self._saves.get(ordinal)
        if ticket is None:
            return
        if ticket.snapshot is not None:
            ticket.snapshot.release()
            ticket.snapshot = None
        self._drop_state(ticket)
        if ticket.outcome.done():
            del self._saves[ordinal]

    def _drop_state(self, ticket: SaveTicket) -> None:
        if ticket.state is not None:
            ticket.state.release()
            ticket.state = None

    def _stop_with(self, error: DistckptError | None) -> None:
        with self._lock:
            self._stopped = error or ManagerClosed("the manager was closed")
            saves, restores = list(self._saves.values()), list(self._restores.values())
            wishes = list(self._wishes.values())
        self._in_hand.end()
        for save in saves:
            save.outcome.fail(self._stopped)
            save.decided.set()
        for restore in restores:
            restore.outcome.fail(self._stopped)
        for wish in wishes:
            wish.fail(self._stopped)
        self.welcome.fail(self._stopped)
        self._parted.set()
        self._ended.set()

    def _crashed(self, error: BaseException) -> None:
        with self._lock:
            self._kept.release_all()
        self._stop_with(FatalError(f"distckpt's agent stopped on an error of its own: {type(error).__name__}: {error}"))

    # -------------------------------------------------------------------------------------------------- lane's thread

    def _write_share(self, effect: effects.WriteShare) -> None:
        ticket, workers = self._saves[effect.ordinal], len(effect.own_bytes)
        try:
            shares = plan(ticket.request.specs, effect.own_bytes, effect.splits, effect.weights)
            shard = self._staged_shard(effect, ticket, shares[effect.share])
        except Exception as error:  # noqa: BLE001  # whatever it is, the other workers must hear of it
            self._loop.post(events.ShareFailed(effect.round, effect.share, cause_of(error, self._me.worker)))
        else:
            check = None
            if effect.share == self._me.worker and ticket.snapshot is not None:
                check = self._checker.check(ticket.snapshot, shares, workers, effect.round)
            self._loop.post(events.ShareWritten(effect.round, effect.share, shard, check))

    def _staged_shard(self, effect: effects.WriteShare, ticket: SaveTicket, share: Share) -> Shard:
        me = self._me
        name = staged_name(me, effect.round, effect.share)
        shard = self._staged_share(effect, ticket, share, name)
        if ticket.state is None or effect.share != me.worker:
            return shard
        world_size = len(effect.own_bytes)
        try:
            payloads = ticket.state.payloads()
            state = stage_state(payloads, self._storage, me.generation, name, world_size, self._threads)
        except BaseException:
            discard_all(self._storage, shard.handles)
            raise
        return replace(shard, state=state)

    def _staged_share(self, effect: effects.WriteShare, ticket: SaveTicket, share: Share, name: str) -> Shard:
        assert ticket.snapshot is not None, "a share is written after the capture"
        worker = self._me.worker
        own = effect.share == worker
        payloads = ticket.snapshot.payloads(share.pieces, own=own)
        checkpoint = ticket.request.name
        unchanged = self._unchanged if own else None  # what is written for another comes in other pieces each time
        parts = unchanged.sort(payloads, checkpoint, name + FROZEN) if unchanged else Sorted(None, [], payloads)
        if to_write := [*parts.apart, *parts.rest]:
            self._activity.begin(effect.round, sum(payload.data.size for payload in to_write))
        changed, frozen = stage(parts, name, self._storage, lambda file, its: self._staged_file(file, its, ticket))
        if unchanged is not None:
            unchanged.keep(checkpoint, parts, frozen)
        return Shard(worker, changed.handle, changed.size_bytes, changed.entries, frozen=frozen)

    def _staged_file(self, name: str, payloads: Sequence[Payload], ticket: SaveTicket) -> DataFile:
        file = MeteredFile(self._storage.stage(self._me.generation, name), self._activity)

        def write(file: StagedFile) -> tuple[tuple[Entry, ...], int]:
            entries, size_bytes = write_share(payloads, file, threads=self._threads)
            ticket.written_bytes += size_bytes
            return entries, size_bytes

        handle, (entries, size_bytes) = sealed(file, write)
        return DataFile(handle, size_bytes, entries)

    def _verify_part(self, effect: effects.VerifyPart) -> None:
        if self._unchanged is not None:
            self._unchanged.forget_file()
        with self._lock:
            ticket = self._restores.get(effect.ordinal)
        if ticket is not None:
            ticket.loader = None  # what was read of the candidate before this one
        try:
            is_chief = self._me.worker == CHIEF
            files = under_own_names(self._storage, effect.name, effect.manifest_sha256, healing=is_chief)
            loader = Loader(files, effect.name, readers())
            manifest, chain = read_manifest(files, effect.name, effect.manifest_sha256)
            found = loader.verify() if ticket and ticket.whole else loader.verify(effect.part, effect.parts)
            found += verify_states(files, manifest, effect.part, effect.parts, readers())
            faults = list(dict.fromkeys([*chain, *found]))
        except (DistckptError, OSError) as error:
            self._loop.post(events.VerifyFailed(effect.round, cause_of(error, self._me.worker)))
            return
        if ticket is not None:
            ticket.loader, ticket.manifest = loader, manifest
        told = "; ".join(str(fault) for fault in faults[:FAULTS_TOLD_MAX])
        more = f"; and {len(faults) - FAULTS_TOLD_MAX} more" if len(faults) > FAULTS_TOLD_MAX else ""
        self._loop.post(events.VerifyDone(effect.round, effect.name, told + more if faults else None))
