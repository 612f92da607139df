"""A worker's part in one generation of the job: opened by the manager's constructor, closed by its `close`.

The chief begins a generation in the journal, recovers what the one before left, and hosts the coordinator; its own
agent is joined to it in memory, so that a job of one worker needs no socket. The other workers find it through a
`Board`, which names a rendezvous file on the shared path.
"""

from __future__ import annotations

import atexit
import os
import socket
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

from distckpt.errors import ConfigurationError, CoordinatorUnreachable, DirectoryNotWritable, StorageError
from distckpt.model import CHIEF, Checkpoint, Place
from distckpt.options import Options
from distckpt.protocol.agent import Agent
from distckpt.protocol.messages import AgentEnvelope, Committed, Join, Sender
from distckpt.protocol.retention import Policy
from distckpt.rpc.client import AgentClient
from distckpt.rpc.credentials import Credentials
from distckpt.rpc.rendezvous import Rendezvous, read_rendezvous
from distckpt.runtime.agent import AgentRuntime
from distckpt.runtime.board import Board
from distckpt.runtime.chief import ChiefSide, begin_generation
from distckpt.runtime.ticket import SaveTicket
from distckpt.storage.posix import PosixStorage

CLOSE_S = 10.0

OnCommit = Callable[[SaveTicket, Committed], None]


@dataclass(slots=True)
class Session:
    """What `open_session` opened. `checkpoints` are the live ones, oldest first, as of the opening."""

    agent: AgentRuntime
    checkpoints: tuple[Checkpoint, ...] = ()
    client: AgentClient | None = None
    chief: ChiefSide | None = None
    closed: bool = False

    def bytes_by_worker(self, name: str) -> tuple[int, ...]:
        """What each worker wrote of the last commit, if that is `name` and this is the chief; else empty."""
        commit = None if self.chief is None else self.chief.coordinator.last_commit
        if commit is None or commit.name != name:
            return ()
        return tuple(shard.size_bytes for shard in commit.shards)

    def finish(self) -> None:
        """Waits, as long as its deadlines allow, for what is in flight, and closes."""
        self.agent.drain()
        self.close()

    def close(self) -> None:
        """Leaves the job; the chief stays, for a bounded time, until the others have left. May be called twice."""
        if self.closed:
            return
        self.agent.stop(CLOSE_S)
        if self.client is not None:
            self.client.close()
        if self.chief is not None:
            self.chief.close()
        self.closed = True


def open_session(
    directory: str, place: Place, board: Board, policy: Policy, options: Options, on_commit: OnCommit
) -> Session:
    """Joins the job. All its workers call this, with the same board.

    Raises DirectoryNotWritable, DirectoryMismatch, DirectoryInUse, CoordinatorUnreachable, Refused, CorruptJournal.
    """
    if place.worker == CHIEF:
        session = _open_chief(directory, place, policy, options, on_commit)
        if session.chief is not None and place.world_size > 1:
            board.publish(session.chief.serve(*_listen_address(place, options)))
    else:
        session = _open_worker(directory, place, _looked_up(board, place, options), options, on_commit)
    session.agent.start()
    try:
        session.checkpoints = session.agent.welcome.result().checkpoints
    except BaseException:
        session.close()
        raise
    return session


def close_when_forgotten(owner: object, session: Session) -> None:
    """Finishes `session` when `owner` is garbage, and at the end of the process: a save in flight is not lost."""
    finish = session.finish
    atexit.register(finish)

    def forgotten() -> None:
        atexit.unregister(finish)
        # Not in the thread that happens to collect garbage: this may take a while.
        threading.Thread(target=finish, name="distckpt-farewell").start()

    weakref.finalize(owner, forgotten).atexit = False


def _open_chief(directory: str, place: Place, policy: Policy, options: Options, on_commit: OnCommit) -> Session:
    storage = PosixStorage.create(directory)
    journal, job = begin_generation(storage, options, place.addresses)
    chief = ChiefSide(storage, journal, job, place.world_size, options, policy, lambda said: agent.heard(said))  # noqa: PLW0108 - made below
    chief.start()
    me = Sender(job, journal.state.generation, CHIEF, uuid4().hex)
    agent = _agent(storage, me, place, options, "this process", chief.coordinator.received, on_commit)
    return Session(agent, chief=chief)


def _open_worker(directory: str, place: Place, key: str, options: Options, on_commit: OnCommit) -> Session:
    storage = PosixStorage(directory)
    rendezvous = read_rendezvous(storage, key, str(storage.directory))
    me = Sender(rendezvous.job, rendezvous.generation, place.worker, uuid4().hex)
    credentials = options.credentials or _handed_out(rendezvous, place)
    agent = _agent(storage, me, place, options, rendezvous.address, lambda said: client.send(said), on_commit)  # noqa: PLW0108 - made below
    client = AgentClient(
        rendezvous.address,
        credentials,
        me,
        on_message=agent.heard,
        on_connected=agent.connected,
        on_disconnected=lambda _: agent.disconnected(),
    )
    client.start()
    return Session(agent, client=client)


def _handed_out(rendezvous: Rendezvous, place: Place) -> Credentials:
    if place.worker < len(rendezvous.workers):
        return rendezvous.workers[place.worker]
    raise ConfigurationError(
        f"the chief made credentials for {len(rendezvous.workers)} workers and none for worker {place.worker}: have "
        "all workers the same cluster, and the same Options(credentials=...)?"
    )


def _agent(
    storage: PosixStorage,
    me: Sender,
    place: Place,
    options: Options,
    coordinator: str,
    tell: Callable[[AgentEnvelope], None],
    on_commit: OnCommit,
) -> AgentRuntime:
    join = Join(
        world_size=place.world_size,
        host=socket.gethostname(),
        pid=os.getpid(),
        probe=_write_probe(storage, me),
        address=place.addresses[me.worker] if place.addresses else "",
    )
    machine = Agent(me, join, options.deadlines, coordinator)
    return AgentRuntime(machine, me, storage, options, tell, on_commit)


def _write_probe(storage: PosixStorage, me: Sender) -> str:
    """The file that shows the chief that this worker writes where the chief reads."""
    key = f".distckpt/probe/{me.generation}-{me.worker}-{me.incarnation}"
    try:
        storage.put(key, me.incarnation.encode())
    except StorageError as error:
        message = f"worker {me.worker} cannot write into {storage.directory}: {error}"
        raise DirectoryNotWritable(message, me.worker) from error
    return key


def _looked_up(board: Board, place: Place, options: Options) -> str:
    try:
        return board.lookup(options.deadlines.join_s)
    except TimeoutError as error:
        chief = place.addresses[CHIEF] if place.addresses else "worker 0"
        raise CoordinatorUnreachable(
            f"worker {place.worker}: the chief ({chief}) opened no CheckpointManager within "
            f"{options.deadlines.join_s:g} s. Do all workers construct the same CheckpointManagers in the same order?",
            CHIEF,
        ) from error


def _listen_address(place: Place, options: Options) -> tuple[str, int]:
    """Where the chief listens: as the options say, else on its own host in the cluster and a free port."""
    if options.address is None:
        return place.addresses[CHIEF].rpartition(":")[0].strip("[]"), 0
    host, _, port = options.address.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigurationError(f'Options(address=...) takes "host:port", got {options.address!r}')
    return host.strip("[]"), int(port)
