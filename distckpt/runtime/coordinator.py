"""The coordinator as it runs on the chief: `protocol.coordinator` in a loop, commits on a lane of their own.

All writing to the journal is on that one lane. A second lane reads probes, so that a worker that joins is not kept
waiting by a commit.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future

from distckpt.commit.committer import Committer, Done
from distckpt.errors import DistckptError, FatalError, Fenced, OutcomeUnknown, cause_of
from distckpt.model import CHIEF, TensorSpec
from distckpt.protocol import effects, events
from distckpt.protocol.coordinator import Coordinator
from distckpt.protocol.messages import AgentEnvelope, CoordinatorEnvelope, Wish, WishOver
from distckpt.report import JobStatus
from distckpt.runtime.lane import Lane
from distckpt.runtime.loop import Loop
from distckpt.runtime.observer import Observer, Tapped
from distckpt.runtime.staging import discard_all
from distckpt.storage.interface import Storage

log = logging.getLogger("distckpt.coordinator")

_PROBE_BYTES_MAX = 1 << 16


class CoordinatorRuntime:
    """Runs `machine`. `send` delivers to the agent that the envelope names, without waiting. `specs_of` gives the
    tensors that a save must have, by their digest, where the chief knows them. `observer` is shown all that passes.

    `last_commit` is what was committed last, None before the first.
    """

    def __init__(
        self,
        machine: Coordinator,
        committer: Committer,
        storage: Storage,
        job: str,
        generation: int,
        send: Callable[[CoordinatorEnvelope], None],
        world_size: int,
        specs_of: Callable[[str], Iterable[TensorSpec] | None],
        observer: Observer | None = None,
    ) -> None:
        self._machine = machine
        self._observer = observer
        self._committer = committer
        self._storage = storage
        self._generation = generation
        self._send = send
        self._world_size = world_size
        self._specs_of = specs_of
        self._job = job
        self._commits = Lane("commit")
        self._probes = Lane("probe")
        self._loop: Loop[events.CoordinatorEvent, effects.CoordinatorEffect] = Loop(
            "coordinator",
            machine if observer is None else Tapped(machine, observer.coordinator_did),
            events.Tick(),
            self._perform,
            self._crashed,
            self._look_around,
        )
        self.last_commit: effects.Commit | None = None
        self.alone = threading.Event()
        self.all_came = threading.Event()
        self._came: set[int] = set()
        self._lock = threading.Lock()
        self._wishes: dict[int, Future[WishOver]] = {}
        self._wish_count = 0
        self._present: tuple[int, ...] = ()

    def start(self) -> None:
        self._loop.start()

    def received(self, envelope: AgentEnvelope) -> None:
        self._loop.post(events.Received(envelope))

    def disconnected(self, worker: int, incarnation: str) -> None:
        self._loop.post(events.Disconnected(worker, incarnation))

    def superseded(self, error: Fenced) -> None:
        """A later generation has begun: all agents are told to stop."""
        self._loop.post(events.Superseded(self._generation + 1, cause_of(error, CHIEF)))

    def status(self) -> JobStatus:
        """Who is in the job now; from any thread, without waiting."""
        return JobStatus(self._job, self._generation, self._world_size, self._present)

    def picture(self) -> bytes | None:
        """How the job stands, as its observer draws it; None without one."""
        return None if self._observer is None else self._observer.picture_json()

    def save_now(self, wish: Wish) -> Future[WishOver]:
        """A tool wants a save; from any thread. The future has its answer, after `wish.within_s` at the latest."""
        answer: Future[WishOver] = Future()
        with self._lock:
            self._wish_count += 1
            number = self._wish_count
            self._wishes[number] = answer
        self._loop.post(events.ToolWishes(number, wish))
        return answer

    def stop(self, timeout_s: float) -> None:
        self._loop.post(events.Stop())
        self._loop.close(timeout_s)
        self._commits.close(timeout_s)
        self._probes.close(timeout_s)

    # -------------------------------------------------------------------------------------------------- loop's thread

    def _perform(self, effect: effects.CoordinatorEffect) -> None:
        match effect:
            case effects.Send(envelope):
                self._send(envelope)
            case effects.Commit():
                self._commits.submit(lambda: self._commit(effect))
            case effects.CheckProbe():
                self._probes.submit(lambda: self._check_probe(effect))
            case effects.WishAnswered(answer):
                with self._lock:
                    self._wishes.pop(answer.number).set_result(answer)
            case effects.Discard(_, handles):
                self._commits.submit(lambda: discard_all(self._storage, handles))
            case effects.Quarantine():
                self._commits.submit(lambda: self._quarantine(effect))
            case effects.Log(level, text):
                getattr(log, level)(text)

    def _look_around(self) -> None:
        """`alone` is set while no worker is joined: the chief, which leaves first, stays until then. `all_came` is set
        once every worker has joined, if only for a while.
        """
        present = self._machine.present
        if present is self._present:  # with thousands of workers, looking at each after every message would be too much
            return
        self._present = present
        self._came.update(self._present)
        if len(self._came) == self._world_size:
            self.all_came.set()
        if self._present:
            self.alone.clear()
        else:
            self.alone.set()

    def _crashed(self, error: BaseException) -> None:
        """The agents find out by themselves: the coordinator answers no more."""

    # ------------------------------------------------------------------------------------------------- lanes' threads

    def _commit(self, effect: effects.Commit) -> None:
        try:
            specs = self._specs_of(effect.digest)
            self._committer.commit(effect, specs, lambda done: self._committed(effect, done))
        except Exception as error:  # noqa: BLE001  # whatever it is, the round must have an outcome
            fatal = isinstance(error, (FatalError, OutcomeUnknown))
            self._loop.post(events.CommitFailed(effect.round, cause_of(error, CHIEF), fatal))

    def _committed(self, effect: effects.Commit, done: Done) -> None:
        self.last_commit = effect
        self._loop.post(events.CommitDone(effect.round, *done))

    def _quarantine(self, effect: effects.Quarantine) -> None:
        try:
            self._committer.quarantine(effect.name, effect.reason)
        except DistckptError as error:
            log.warning("%s is corrupt and could not be set aside: %s", effect.name, error)
        self._loop.post(events.Quarantined(effect.round, effect.name))

    def _check_probe(self, effect: effects.CheckProbe) -> None:
        try:
            # A worker names the key: were it a data file, reading all of it would take its size in memory.
            found = self._storage.read_at(effect.key, 0, _PROBE_BYTES_MAX).decode(errors="replace")
            fault = (
                None if found == effect.incarnation else f"it holds {found[:64]!r} instead of {effect.incarnation!r}"
            )
        except (DistckptError, ValueError) as error:
            fault = str(error)
        self._loop.post(events.ProbeResult(effect.worker, effect.incarnation, fault))
