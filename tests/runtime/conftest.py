"""Jobs of several workers without TensorFlow: real sessions, sockets and files; the model is a dict of arrays."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from distckpt.bundle.payload import Payload
from distckpt.model import Extent, Piece, Place, TensorSpec
from distckpt.options import Options
from distckpt.protocol.cross_check import CrossCheck
from distckpt.protocol.deadlines import Deadlines
from distckpt.protocol.plan import specs_digest
from distckpt.protocol.retention import KeepLatest, Policy
from distckpt.runtime.observer import Observer
from distckpt.runtime.session import Session, open_session
from distckpt.runtime.ticket import SaveRequest, SaveTicket

DT_FLOAT = 1

SHORT = Deadlines(
    resend_s=0.1,
    heartbeat_s=0.1,
    silence_s=3.0,
    disconnect_s=0.5,
    join_s=5.0,
    announce_s=1.5,
    write_s=10.0,
    commit_s=10.0,
    restore_s=10.0,
)

Model = dict[str, NDArray[np.float32]]


class ArraySnapshot:
    """What `tensors/` makes of TensorFlow variables, made of arrays. `own` is what only this worker writes."""

    def __init__(self, model: Model, own: Model) -> None:
        self._model = {name: array.copy() for name, array in model.items()}
        self._own = {name: array.copy() for name, array in own.items()}
        self.own_bytes = sum(array.nbytes for array in own.values())
        self.released = False

    def payloads(self, pieces: Iterable[Piece], *, own: bool) -> list[Payload]:
        found = [_payload(piece.tensor, self._model[piece.tensor], piece.rows) for piece in pieces]
        return found + [_payload(name, array, None) for name, array in self._own.items() if own]

    def everything(self) -> list[Payload]:
        return self.payloads([Piece(name, array.nbytes) for name, array in self._model.items()], own=True)

    def release(self) -> None:
        self.released = True


class ArrayState:
    """What only one worker has, made of arrays."""

    def __init__(self, arrays: Model) -> None:
        self._arrays = {name: array.copy() for name, array in arrays.items()}
        self.own_bytes = sum(array.nbytes for array in arrays.values())
        self.released = False

    def payloads(self) -> list[Payload]:
        return [_payload(name, array, None) for name, array in self._arrays.items()]

    def release(self) -> None:
        self.released = True


def _payload(name: str, array: NDArray[np.float32], rows: Extent | None) -> Payload:
    part = None
    data = array
    if rows is not None:
        part = (rows, *(Extent(0, size) for size in array.shape[1:]))
        data = array[rows.start : rows.end]
    return Payload(name, DT_FLOAT, array.shape, np.ascontiguousarray(data).reshape(-1).view(np.uint8), part)


def specs_of(model: Model) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, DT_FLOAT, array.shape, array.nbytes, divisible=array.ndim > 0 and array.shape[0] > 1)
        for name, array in sorted(model.items())
    )


class MemoryBoard:
    """The board of one start of a job whose workers are threads."""

    def __init__(self) -> None:
        self._text: str | None = None
        self._changed = threading.Condition()

    def publish(self, text: str) -> None:
        with self._changed:
            self._text = text
            self._changed.notify_all()

    def lookup(self, timeout_s: float) -> str:
        with self._changed:
            self._changed.wait_for(lambda: self._text is not None, timeout_s)
            if self._text is None:
                raise TimeoutError("nothing was published")
            return self._text


@dataclass
class Worker:
    """One worker of the job: its session, and a training thread's calls."""

    session: Session
    index: int
    commits: list[str] = field(default_factory=list)

    def save(
        self,
        step: int,
        model: Model,
        *,
        own: Model | None = None,
        name: str | None = None,
        state: ArrayState | None = None,
        captured: bool = True,
    ) -> SaveTicket:
        """`captured`: False where the model is handed in by `capture`, after the decision."""
        snapshot = ArraySnapshot(model, own or {})
        own_bytes = snapshot.own_bytes + (state.own_bytes if state else 0)
        request = self.request(step, model, name, own_bytes)
        return self.session.agent.begin_save(request, snapshot if captured else None, state)

    def request(self, step: int, model: Model, name: str | None = None, own_bytes: int = 0) -> SaveRequest:
        specs = specs_of(model)
        return SaveRequest(step, name or f"ckpt-{step}", specs, specs_digest(specs), own_bytes, {})

    def capture(self, ticket: SaveTicket, model: Model) -> None:
        self.session.agent.captured(ticket, ArraySnapshot(model, {}))


class Job:
    """Opens and closes the workers of one job in threads of this process."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.workers: list[Worker] = []
        self._threads = ThreadPoolExecutor(8)

    def start(
        self,
        count: int,
        *,
        job: str = "job",
        deadlines: Deadlines = SHORT,
        policy: Policy | None = None,
        directories: list[Path] | None = None,
        observer: Observer | None = None,
        cross_check: CrossCheck = "warn",
        link_unchanged: bool = False,
        snapshot_every: int | None = None,
    ) -> list[Worker]:
        """All workers' sessions, open; raises the first error of a constructor."""
        more = {"link_unchanged": link_unchanged, "snapshot_every": snapshot_every, "cross_check": cross_check}
        begun = self.begin(count, job, deadlines, policy, directories, observer, **more)
        return [future.result(60) for future in begun]

    def begin(
        self,
        count: int,
        job: str = "job",
        deadlines: Deadlines = SHORT,
        policy: Policy | None = None,
        directories: list[Path] | None = None,
        observer: Observer | None = None,
        **more: Any,
    ) -> list[Future[Worker]]:
        """`more`: of the options."""
        board = MemoryBoard()
        addresses = tuple("127.0.0.1:0" for _ in range(count))
        options = Options(deadlines=deadlines, job=job, **more)

        def open_worker(index: int) -> Worker:
            commits: list[str] = []
            session = open_session(
                str(directories[index] if directories else self.directory),
                Place(index, count, addresses),
                board,
                policy or KeepLatest(None),
                options,
                lambda _, committed: commits.append(committed.checkpoint.name),
                observer=observer,
            )
            worker = Worker(session, index, commits)
            self.workers.append(worker)
            return worker

        return [self._threads.submit(open_worker, index) for index in range(count)]

    def stop(self) -> None:
        """Closes whoever is still open, the chief last."""
        for worker in sorted(self.workers, key=lambda worker: -worker.index):
            worker.session.close()
        self.workers.clear()
        self._threads.shutdown()


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    made = Job(tmp_path / "checkpoints")
    yield made
    made.stop()


@pytest.fixture
def new_job() -> Iterator[Callable[[Path], Job]]:
    """More than one job in a test."""
    made: list[Job] = []

    def make(directory: Path) -> Job:
        made.append(Job(directory))
        return made[-1]

    yield make
    for each in made:
        each.stop()


@pytest.fixture
def model() -> Model:
    """Some 2 MB: a large tensor, several small ones."""
    rng = np.random.default_rng(1)
    sizes = {"embedding": (4000, 64), "kernel": (256, 256), "bias": (256,), "scale": ()}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in sizes.items()}


@pytest.fixture
def state_of() -> Callable[[float], ArrayState]:
    """What only one worker has: arrays full of a value."""
    return lambda value: ArrayState(
        {"iterator": np.full(1000, value, np.float32), "rng": np.full(3, value, np.float32)}
    )
