"""A worker's part in one generation of the job: opened by the manager's constructor, closed by its `close`.

The chief begins a generation in the journal, recovers what the one before left, and hosts the coordinator; its own
agent is joined to it in memory; the socket is for the other workers and for tools (a job of one worker listens on the
loopback alone). The other workers find it through a `Board`, which names a rendezvous file on the shared path.
"""

from __future__ import annotations

import atexit
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol
from uuid import uuid4

from distckpt.commit.succession import Succession
from distckpt.journal.leases import LeaseWatch
from distckpt.model import CHIEF, Checkpoint, Place
from distckpt.options import Options
from distckpt.protocol.agent import Agent
from distckpt.protocol.messages import AgentEnvelope, Committed, Join, Sender
from distckpt.protocol.retention import NO_PRESERVATION, Policy, Preservation
from distckpt.rpc.client import AgentClient
from distckpt.rpc.rendezvous import read_rendezvous
from distckpt.runtime.agent import AgentRuntime
from distckpt.runtime.board import Board
from distckpt.runtime.chief import ChiefSide, begin_generation
from distckpt.runtime.joining import credentials_for, listen_address, look_up, tell_failure, tell_key, write_probe
from distckpt.runtime.observer import Observer
from distckpt.runtime.successor import Successor
from distckpt.runtime.ticket import SaveTicket
from distckpt.storage.posix import PosixStorage

CLOSE_S = 10.0

OnCommit = Callable[[SaveTicket, Committed], None]


@dataclass(slots=True, eq=False, weakref_slot=True)
class Session:
    """This worker's agent and, on the chief, what hosts the coordinator.

    `checkpoints` are the live ones, oldest first, as of the opening. `closing` holds what closes the parts.
    """

    agent: AgentRuntime
    checkpoints: tuple[Checkpoint, ...]
    chief: ChiefSide | None
    closing: ExitStack

    def bytes_by_worker(self, name: str) -> tuple[int, ...]:
        """What each worker wrote of the last commit, if that is `name` and this is the chief; else empty."""
        chief = self.chief
        commit = None if chief is None else chief.coordinator.last_commit
        if chief is None or commit is None or commit.name != name:
            return ()
        sizes = [0] * chief.world_size
        for shard in commit.shards:
            sizes[shard.worker] += shard.written_bytes
        return tuple(sizes)

    def finish(self) -> None:
        """Waits, as long as its deadlines allow, for what is in flight, and closes."""
        self.agent.drain()
        self.close()

    def hand_over(self) -> None:
        """As `finish`, before this process opens the next session at once, as all workers do."""
        if self.chief is not None:
            self.chief.wait_for_all()
        self.finish()

    def close(self) -> None:
        """Leaves the job; the chief stays, for a bounded time, until the others have left. May be called twice."""
        self.closing.close()


def open_session(
    directory: str,
    place: Place,
    board: Board,
    policy: Policy,
    options: Options,
    on_commit: OnCommit,
    *,
    preservation: Preservation = NO_PRESERVATION,
    clock: Callable[[], float] = time.time,
    observer: Observer | None = None,
) -> Session:
    """Joins the job. All its workers call this, with the same board; what keeps the chief out keeps all out.

    `clock` dates the commits. `observer` is used on the chief alone.

    Raises DirectoryNotWritable, DirectoryMismatch, DirectoryInUse, CoordinatorUnreachable, Refused, CorruptJournal.
    """
    with ExitStack() as stack:
        opening = _Opening(place, board, options, on_commit, stack, observer if place.is_chief else None)
        if not place.is_chief:
            return opening.as_worker(PosixStorage(directory), policy, preservation, clock)
        try:
            return opening.as_chief(PosixStorage.create(directory), policy, preservation, clock)
        except Exception as error:
            if place.world_size > 1:
                tell_failure(board, error)
            raise


class Finishable(Protocol):
    def finish(self) -> None:
        """Waits for what is in flight, and closes. May be called twice."""


def close_when_forgotten(owner: object, session: Finishable) -> None:
    """Finishes `session` when `owner` is garbage, and at the end of the process: a save in flight is not lost."""
    finish = session.finish
    atexit.register(finish)

    def forgotten() -> None:
        atexit.unregister(finish)
        # Not in the thread that happens to collect garbage: this may take a while.
        threading.Thread(target=finish, name="distckpt-farewell").start()

    weakref.finalize(owner, forgotten).atexit = False


@dataclass(frozen=True, slots=True)
class _Opening:
    """Opens one session. `stack` closes the parts that are there if a later one fails."""

    place: Place
    board: Board
    options: Options
    on_commit: OnCommit
    stack: ExitStack
    observer: Observer | None

    def as_chief(
        self, storage: PosixStorage, policy: Policy, preservation: Preservation, clock: Callable[[], float]
    ) -> Session:
        journal, job = begin_generation(storage, self.options, self.place.addresses)
        chief = ChiefSide(
            storage,
            journal,
            job,
            self.place.world_size,
            self.options,
            policy,
            preservation,
            clock,
            observer=self.observer,
        )
        chief.start()
        self.stack.callback(chief.close)
        me = Sender(job, journal.state.generation, CHIEF, uuid4().hex)
        agent = self._agent(storage, me, "this process", chief.coordinator.received)
        chief.deliver, chief.specs_of = agent.heard, agent.specs_of
        key = chief.serve(*listen_address(self.place, self.options))
        if self.place.world_size > 1:
            tell_key(self.board, key)
        return self._joined(agent, chief)

    def as_worker(
        self, storage: PosixStorage, policy: Policy, preservation: Preservation, clock: Callable[[], float]
    ) -> Session:
        key = look_up(self.board, self.place, self.options)
        rendezvous = read_rendezvous(storage, key, str(storage.directory))
        me = Sender(rendezvous.job, rendezvous.generation, self.place.worker, uuid4().hex)
        succession = Succession(
            storage,
            me.job,
            me.generation,
            str(storage.directory),
            policy,
            preservation,
            LeaseWatch(storage).held,
            clock,
        )
        agent = self._agent(
            storage,
            me,
            rendezvous.address,
            lambda said: client.send(said),  # noqa: PLW0108 - see below
            Successor(succession, me.worker, self.place.world_size, self.options.writer_threads),
        )
        client = AgentClient(  # needs the agent, which needs the client
            rendezvous.address,
            credentials_for(self.place, rendezvous, self.options),
            me,
            silence_s=self.options.deadlines.for_world(self.place.world_size).silence_s,
            on_message=agent.heard,
            on_connected=agent.connected,
            on_disconnected=lambda _: agent.disconnected(),
        )
        self.stack.callback(client.close)
        client.start()
        return self._joined(agent, None)

    def _agent(
        self,
        storage: PosixStorage,
        me: Sender,
        coordinator: str,
        tell: Callable[[AgentEnvelope], None],
        successor: Successor | None = None,
    ) -> AgentRuntime:
        probe = write_probe(storage, me)
        self.stack.callback(storage.delete, probe)
        addresses = self.place.addresses
        join = Join(
            world_size=self.place.world_size,
            host=socket.gethostname(),
            pid=os.getpid(),
            probe=probe,
            address=addresses[me.worker] if addresses else "",
        )
        machine = Agent(me, join, self.options.deadlines, coordinator)
        return AgentRuntime(machine, me, storage, self.options, tell, self.on_commit, self.observer, successor)

    def _joined(self, agent: AgentRuntime, chief: ChiefSide | None) -> Session:
        agent.start()
        self.stack.callback(agent.stop, CLOSE_S)
        welcome = agent.welcome.result()
        return Session(agent, welcome.checkpoints, chief, self.stack.pop_all())
