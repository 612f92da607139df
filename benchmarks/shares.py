"""`make bench-shares`: shares that follow the workers' speed, and what the check for silent corruption costs.

Real sessions, sockets and files; the workers are threads of one process, their model a dict of arrays, without
TensorFlow. Prints two tables and, with --json, writes the figures.

    shares: each worker's writing is held to a bandwidth by a token bucket, the last one's to a quarter of the others'.
        A save's time over the ideal one, which the summed bandwidth allows: of the first save (even shares), and the
        median of those once the weights are known.
    cross-check: nothing is held. Saves without a check, with "warn" and with "refuse", in turn; medians of the time to
        the commit, and of the processor time of all workers, which says more on a machine that does other things.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distckpt.bundle.payload import Payload
from distckpt.model import Extent, Piece, Place, TensorSpec
from distckpt.options import Options
from distckpt.protocol.cross_check import CrossCheck
from distckpt.protocol.plan import specs_digest
from distckpt.protocol.retention import KeepLatest
from distckpt.protocol.speeds import SAVES
from distckpt.runtime.session import Session, open_session
from distckpt.runtime.ticket import SaveRequest
from distckpt.storage.interface import Bytes, StagedFile
from distckpt.text import columns

DT_FLOAT = 1
MIB = 1 << 20
TENSORS = 300
ROWS = 64
WEIGHED = 4
"""Saves with known weights."""
MODES: tuple[CrossCheck, ...] = ("off", "warn", "refuse")


class Board:
    """Where the workers of one job find its chief."""

    def __init__(self) -> None:
        self._text = ""
        self._told = threading.Event()

    def publish(self, text: str) -> None:
        self._text = text
        self._told.set()

    def lookup(self, timeout_s: float) -> str:
        if not self._told.wait(timeout_s):
            raise TimeoutError("no chief")
        return self._text


class Arrays:
    """A snapshot of arrays that nobody changes."""

    def __init__(self, model: dict[str, NDArray[np.float32]]) -> None:
        self._model = model

    def payloads(self, pieces: Iterable[Piece], *, own: bool) -> list[Payload]:  # noqa: ARG002 # Snapshot's
        return [self._payload(piece) for piece in pieces]

    def everything(self) -> list[Payload]:
        return [self._payload(Piece(name, array.nbytes)) for name, array in self._model.items()]

    def release(self) -> None:
        pass

    def _payload(self, piece: Piece) -> Payload:
        array = self._model[piece.tensor]
        rows = piece.rows or Extent(0, len(array))
        part = None if piece.rows is None else (rows, Extent(0, array.shape[1]))
        data = array[rows.start : rows.end].reshape(-1).view(np.uint8)
        return Payload(piece.tensor, DT_FLOAT, array.shape, data, part)


class Held:
    """A storage that writes no more than `rate` bytes a second into the file that it staged last. A writer that was
    woken too late makes up for it.
    """

    def __init__(self, storage: Any, rate: float) -> None:
        self._storage = storage
        self._rate = rate
        self._lock = threading.Lock()
        self._free_at = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def stage(self, generation: int, name: str) -> StagedFile:
        with self._lock:
            self._free_at = time.monotonic()
        return _HeldFile(self._storage.stage(generation, name), self)

    def take(self, size_bytes: int) -> None:
        """Waits until so many bytes may be written."""
        with self._lock:
            self._free_at += size_bytes / self._rate
            wait = self._free_at - time.monotonic()
        time.sleep(max(0.0, wait))


class _HeldFile:
    def __init__(self, file: StagedFile, storage: Held) -> None:
        self._file = file
        self._storage = storage

    def write_at(self, offset: int, data: Bytes) -> None:
        self._storage.take(len(data))
        self._file.write_at(offset, data)

    def seal(self) -> str:
        return self._file.seal()

    def abandon(self) -> None:
        self._file.abandon()


class Job:
    """The workers of one job, whose model has `size_bytes`."""

    def __init__(self, sessions: list[Session], size_bytes: int) -> None:
        columns_each = size_bytes // TENSORS // ROWS // 4
        rng = np.random.default_rng(1)
        self._model = {
            f"layer{number:03d}": rng.standard_normal((ROWS, columns_each), np.float32) for number in range(TENSORS)
        }
        self.sessions = sessions
        self.model_bytes = sum(array.nbytes for array in self._model.values())
        self._specs = tuple(
            TensorSpec(name, DT_FLOAT, array.shape, array.nbytes, divisible=True) for name, array in self._model.items()
        )
        self._digest = specs_digest(self._specs)
        self._step = 0

    def save(self) -> float:
        """Seconds until the last worker has heard of the commit."""
        self._step += 1
        request = SaveRequest(self._step, f"ckpt-{self._step}", self._specs, self._digest, 0, {})
        begun = time.perf_counter()
        tickets = [session.agent.begin_save(request, Arrays(self._model)) for session in self.sessions]
        for ticket in tickets:
            ticket.outcome.result()
        return time.perf_counter() - begun


@contextmanager
def job(directory: Path, workers: int, size_bytes: int, cross_check: CrossCheck) -> Iterator[Job]:
    board, options = Board(), Options(job=directory.name, cross_check=cross_check)
    addresses = tuple("127.0.0.1:0" for _ in range(workers))

    def begin(index: int) -> Session:
        place = Place(index, workers, addresses)
        return open_session(str(directory), place, board, KeepLatest(2), options, lambda *_: None)

    with ThreadPoolExecutor(workers) as threads:
        sessions = list(threads.map(begin, range(workers)))
    try:
        yield Job(sessions, size_bytes)
    finally:
        for session in reversed(sessions):
            session.close()


def follow(directory: Path, workers: int, size_bytes: int, rate: float) -> dict[str, Any]:
    """The last worker's bandwidth is a quarter of the others' `rate`."""
    with job(directory / f"shares-{workers}", workers, size_bytes, "off") as running:
        rates = [rate] * (workers - 1) + [rate / 4]
        for session, each in zip(running.sessions, rates, strict=True):
            agent = session.agent
            agent._storage = Held(agent._storage, each)  # noqa: SLF001 # the one place where a share is written
        ideal = running.model_bytes / sum(rates)
        seconds = [running.save() for _ in range(SAVES + WEIGHED)]
        written = running.sessions[0].bytes_by_worker(f"ckpt-{len(seconds)}")
    return {
        "workers": workers,
        "ideal_s": ideal,
        "saves_s": seconds,
        "bytes_by_worker": written,
        "even shares / ideal": statistics.median(seconds[:SAVES]) / ideal,
        "by speed / ideal": statistics.median(seconds[SAVES:]) / ideal,
    }


def check(directory: Path, size_bytes: int, rounds: int) -> dict[str, Any]:
    """Two workers, nothing held back: what the check costs."""
    with (
        job(directory / "off", 2, size_bytes, "off") as off,
        job(directory / "warn", 2, size_bytes, "warn") as warn,
        job(directory / "refuse", 2, size_bytes, "refuse") as refuse,
    ):
        jobs = dict(zip(MODES, (off, warn, refuse), strict=True))
        seconds: dict[str, list[float]] = {mode: [] for mode in jobs}
        processor: dict[str, list[float]] = {mode: [] for mode in jobs}
        for number in range(rounds + 1):
            for mode, running in jobs.items():
                busy = time.process_time()
                took = running.save()
                if number:  # the first one makes the files' first pages
                    seconds[mode].append(took)
                    processor[mode].append(time.process_time() - busy)
    return {
        "saves_s": seconds,
        "median_s": {mode: statistics.median(each) for mode, each in seconds.items()},
        "processor_s": {mode: statistics.median(each) for mode, each in processor.items()},
    }


def _beside(seconds: dict[str, float], mode: str) -> tuple[str, str]:
    return f"{1000 * seconds[mode]:.1f} ms", f"{seconds[mode] / seconds['off']:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=32, help="a worker, of the model whose writing is held back (32)")
    parser.add_argument("--rate", type=float, default=32.0, help="MiB/s of a worker that is not slow (32)")
    parser.add_argument("--check-mib", type=int, default=256, help="of the model that is checked (256)")
    parser.add_argument("--rounds", type=int, default=24, help="saves of each kind of check (24)")
    parser.add_argument("--directory", default=None, help="where to write; default: the system's temporary directory")
    parser.add_argument("--json", default=None, help="a file for the figures")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=told.directory) as directory:
        follows = [follow(Path(directory), workers, workers * told.mib * MIB, told.rate * MIB) for workers in (2, 4)]
        checked = check(Path(directory), told.check_mib * MIB, told.rounds)
    rows = [("ONE WORKER OF A QUARTER OF THE SPEED", "EVEN SHARES / IDEAL", "BY SPEED / IDEAL")]
    for each in follows:
        ratios = (f"{each[name]:.2f}" for name in ("even shares / ideal", "by speed / ideal"))
        rows.append((f"{each['workers']} workers", *ratios))
    sys.stdout.write("\n".join(columns(rows, right=(1, 2))) + "\n\n")
    kinds = [("CROSS-CHECK", "TO THE COMMIT", "OVER OFF", "PROCESSOR", "OVER OFF")]
    kinds += [(mode, *_beside(checked["median_s"], mode), *_beside(checked["processor_s"], mode)) for mode in MODES]
    sys.stdout.write("\n".join(columns(kinds, right=(1, 2, 3, 4))) + "\n")
    if told.json:
        Path(told.json).write_text(json.dumps({"shares": follows, "cross_check": checked}, indent=1))


if __name__ == "__main__":
    main()
