"""The chief's side of a session: a new generation of the job, its recovery, the coordinator and its server."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from distckpt.commit.committer import Committer
from distckpt.commit.recovery import recover
from distckpt.errors import DistckptError, Fenced, StorageError
from distckpt.journal.identity import job_identity
from distckpt.journal.leases import LeaseWatch
from distckpt.journal.liveness import BEAT_S, Pulse, claim
from distckpt.journal.log import Journal
from distckpt.journal.process import this_process
from distckpt.model import CHIEF, TensorSpec
from distckpt.options import Options
from distckpt.protocol.coordinator import Coordinator
from distckpt.protocol.messages import CoordinatorEnvelope
from distckpt.protocol.retention import NO_PRESERVATION, Policy, Preservation
from distckpt.rpc.credentials import Credentials
from distckpt.rpc.descriptors import check_room_for
from distckpt.rpc.rendezvous import Rendezvous, write_rendezvous
from distckpt.rpc.server import CoordinatorServer
from distckpt.runtime.coordinator import CoordinatorRuntime
from distckpt.runtime.observer import Observer, Opening
from distckpt.storage.posix import PosixStorage

log = logging.getLogger("distckpt")

SERVER_START_S = 30.0
FAREWELL_S = 10.0
"""How long a chief that closes stays for workers that have not left."""


def begin_generation(storage: PosixStorage, options: Options, world: tuple[str, ...]) -> tuple[Journal, str]:
    """Takes the directory over for this job: returns its journal, as the writer of a new generation, and the job's id.

    Raises DirectoryInUse where another job that is alive holds it, CorruptJournal, StorageError.
    """
    identity = job_identity(options.job, os.environ)
    journal = Journal.open(storage)
    journal.begin(
        job=identity.id,
        process=this_process(),
        world=world,
        timestamp=time.time(),
        admit=lambda state: log.info("%s", claim(storage, identity.id, state.begun)),
    )
    return journal, identity.id


@dataclass(slots=True)
class ChiefSide:
    """Hosts the coordinator for `world_size` workers. `deliver` takes what it says to the chief's own agent;
    `specs_of` is that one's, too.
    """

    storage: PosixStorage
    journal: Journal
    job: str
    world_size: int
    options: Options
    policy: Policy
    preservation: Preservation = NO_PRESERVATION
    clock: Callable[[], float] = time.time
    deliver: Callable[[CoordinatorEnvelope], None] = lambda _: None  # until it has joined, nothing is said to it
    specs_of: Callable[[str], Sequence[TensorSpec] | None] = lambda _: None  # nor has it asked for a save
    observer: Observer | None = None
    coordinator: CoordinatorRuntime = field(init=False)
    _server: CoordinatorServer | None = None
    _rendezvous: str = ""
    _recovered: threading.Event = field(default_factory=threading.Event)
    _closing: threading.Event = field(default_factory=threading.Event)
    _beating: threading.Thread = field(init=False)

    def start(self) -> None:
        """Shows at once that this chief lives, recovers what earlier generations left, then lets workers join."""
        self._beating = threading.Thread(target=self._beat, name="distckpt-pulse", daemon=True)
        self._beating.start()
        try:
            leased = LeaseWatch(self.storage).held
            last_preserved = recover(self.storage, self.journal, str(self.storage.directory), leased, self.clock())
        except BaseException:
            self._closing.set()
            raise
        state = self.journal.state
        machine = Coordinator(
            self.job,
            state.generation,
            self.world_size,
            self.options.deadlines,
            state.live,
            set_aside=[each.checkpoint.name for each in state.quarantined],
            cross_check=self.options.cross_check,
        )
        committer = Committer(
            self.storage,
            self.journal,
            self.job,
            self.policy,
            last_preserved,
            clock=self.clock,
            leased=leased,
            preservation=self.preservation,
        )
        self.coordinator = CoordinatorRuntime(
            machine,
            committer,
            self.storage,
            self.job,
            state.generation,
            self._send,
            self.world_size,
            self._specs_of,
            self.observer,
        )
        if self.observer is not None:
            directory = str(self.storage.directory)
            self.observer.opened(Opening(directory, self.job, state.generation, self.world_size, state.live, machine))
        self.coordinator.start()
        self._recovered.set()

    def serve(self, host: str, port: int) -> str:
        """Opens the coordinator to other processes; returns the key of the rendezvous file that tells them how.

        Raises ConfigurationError where this process may not have so many connections, or the port cannot be had.
        """
        check_room_for(self.world_size)
        workers: tuple[Credentials, ...] = ()
        mine = self.options.credentials
        if mine is None:
            mine, workers = Credentials.generate(self.world_size)
        coordinator = self.coordinator
        self._server = CoordinatorServer(
            coordinator.received,
            coordinator.disconnected,
            coordinator,
            mine,
            host,
            port,
            world_size=self.world_size,
            silence_s=self.options.deadlines.for_world(self.world_size).silence_s,
        )
        address = self._server.start(SERVER_START_S)
        rendezvous = Rendezvous(address, self.job, self.journal.state.generation, workers)
        self._rendezvous = write_rendezvous(self.storage, rendezvous)
        return self._rendezvous

    def wait_for_all(self) -> None:
        """Until every worker has joined this generation, as long as they have for it: none is left before a door that
        the next generation has shut.
        """
        self.coordinator.all_came.wait(self.options.deadlines.join_s)

    def close(self) -> None:
        """Stays until the other workers have left, for up to FAREWELL_S, and then ends."""
        if not self.coordinator.alone.wait(FAREWELL_S):
            log.warning("the chief closes, and other workers have not")
        self._closing.set()
        self.coordinator.stop(FAREWELL_S)
        if self._server is not None:
            self._server.stop(grace_s=1.0)
        self._beating.join(FAREWELL_S)
        if self.observer is not None:
            self.observer.closed()

    def _send(self, envelope: CoordinatorEnvelope) -> None:
        if envelope.receiver.worker == CHIEF:
            self.deliver(envelope)
        elif self._server is not None:
            self._server.send(envelope)

    def _specs_of(self, digest: str) -> Sequence[TensorSpec] | None:
        return self.specs_of(digest)

    def _beat(self) -> None:
        """Shows that this chief is alive until it closes, or finds that it has been fenced."""
        begun = self.journal.state.begun
        assert begun is not None, "a chief has begun a generation"
        pulse = Pulse(self.storage, begun)
        while not self._closing.is_set():
            try:
                pulse.beat()
                self.journal.check_fence()
            except Fenced as error:
                self._fenced(error)
                return
            except DistckptError as error:
                log.warning("this chief could not show that it is alive: %s", error)
            self._closing.wait(BEAT_S)
        try:
            if self._rendezvous:
                self.storage.delete(self._rendezvous)
            pulse.close()
        except StorageError as error:
            log.warning("that this chief has left could not be written: %s", error)

    def _fenced(self, error: Fenced) -> None:
        """All agents are told to stop; in its recovery, the chief finds out by itself."""
        log.error("%s", error)
        if self._recovered.is_set():
            self.coordinator.superseded(error)
