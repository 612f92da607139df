"""A survivor at work: looks at the journal, takes the directory over, writes a whole save and commits it.

On a lane of its own: the one that writes shares may hang in the storage. While it holds the directory it beats as a
chief does, so that neither another job nor another survivor takes it for dead.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from distckpt.bundle.payload import Payload
from distckpt.bundle.writer import write_share
from distckpt.commit.succession import Save, Succession, committed, is_start
from distckpt.errors import DistckptError, cause_of
from distckpt.journal.liveness import BEAT_S, Pulse, read_beat
from distckpt.journal.log import Journal
from distckpt.journal.process import is_gone, this_process
from distckpt.journal.records import GenerationRecord
from distckpt.model import Checkpoint, Shard
from distckpt.protocol.effects import LookAtJournal, TakeOver
from distckpt.protocol.events import JournalSeen, TakeOverEnded
from distckpt.runtime.lane import Lane
from distckpt.runtime.ticket import SaveTicket
from distckpt.runtime.worker_state import stage_state
from distckpt.storage.interface import Storage
from distckpt.storage.sealing import sealed

log = logging.getLogger("distckpt.agent")

Post = Callable[[JournalSeen | TakeOverEnded], None]


class Successor:
    """Of worker `worker` of `world_size`; writes with `threads` threads."""

    def __init__(self, succession: Succession, worker: int, world_size: int, threads: int) -> None:
        self._succession = succession
        self._worker = worker
        self._world_size = world_size
        self._threads = threads
        self._lane: Lane | None = None

    def perform(self, effect: LookAtJournal | TakeOver, ticket: SaveTicket, post: Post) -> None:
        """Returns at once; the outcome is posted."""
        if self._lane is None:
            self._lane = Lane("succession")
        if isinstance(effect, LookAtJournal):
            self._lane.submit(lambda: post(self._seen(effect)))
        else:
            self._lane.submit(lambda: post(self._taken_over(effect, ticket)))

    def close(self, timeout_s: float) -> None:
        if self._lane is not None:
            self._lane.close(timeout_s)

    # -------------------------------------------------------------------------------------------------- lane's thread

    def _seen(self, effect: LookAtJournal) -> JournalSeen:
        try:
            state = Journal.open(self._succession.storage).state
            sign, left = _signs(self._succession.storage, state.begun)
            gone = state.begun is not None and is_gone(state.begun.process, this_process())
        except DistckptError as error:
            log.warning("the journal cannot be read: %s", error)
            return JournalSeen(effect.ordinal, None)
        done = committed(state, effect.name, self._succession.generation)
        return JournalSeen(effect.ordinal, state.generation, is_start(state), sign, gone, left, done)

    def _taken_over(self, effect: TakeOver, ticket: SaveTicket) -> TakeOverEnded:
        try:
            made = self._commit(effect, ticket)
        except Exception as error:  # noqa: BLE001  # whatever it is, the save must have an outcome
            return TakeOverEnded(effect.ordinal, cause=cause_of(error, self._worker))
        return TakeOverEnded(effect.ordinal, made)

    def _commit(self, effect: TakeOver, ticket: SaveTicket) -> Checkpoint | None:
        assert ticket.snapshot is not None, "a save is taken over after its capture"
        payloads = ticket.snapshot.everything()
        state = None if ticket.state is None else ticket.state.payloads()
        request = ticket.request
        journal = self._succession.begin(this_process(), newer_than=request.step if request.salvage else None)
        if journal is None:
            return None
        begun = journal.state.begun
        assert begun is not None, "it has just begun"
        log.warning("worker %d has taken over in generation %d: the chief is gone", self._worker, begun.generation)
        save = Save(effect.round, request.step, request.name, request.metrics, effect.missing)
        with _beating(self._succession.storage, begun):
            return self._succession.commit(journal, save, lambda generation: self._write(payloads, state, generation))

    def _write(self, payloads: list[Payload], state: list[Payload] | None, generation: int) -> Shard:
        storage, name = self._succession.storage, f"takeover-by-worker-{self._worker:05d}"
        own = None
        if state is not None:
            own = stage_state(state, storage, generation, name, self._world_size, self._threads)
        handle, (entries, size_bytes) = sealed(
            storage.stage(generation, name), lambda file: write_share(payloads, file, threads=self._threads)
        )
        return Shard(self._worker, handle, size_bytes, entries, own)


def _signs(storage: Storage, begun: GenerationRecord | None) -> tuple[str | None, bool]:
    """What changes while the holder of the directory lives, and whether it said that it leaves."""
    beat = read_beat(storage)
    if begun is None or beat is None or beat.nonce != begun.nonce:
        return None, False
    return str(beat.counter), beat.closed


@contextmanager
def _beating(storage: Storage, begun: GenerationRecord) -> Iterator[None]:
    """Shows every BEAT_S that this process lives, and at the end that it has left the directory."""
    pulse, over = Pulse(storage, begun), threading.Event()

    def beat() -> None:
        while not over.is_set():
            try:
                pulse.beat()
            except DistckptError as error:
                log.warning("this worker could not show that it is alive: %s", error)
            over.wait(BEAT_S)

    thread = threading.Thread(target=beat, name="distckpt-pulse", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        try:
            pulse.close()
        except DistckptError as error:  # what was committed stays committed
            log.warning("that this worker has left the directory could not be written: %s", error)
