"""A worker of a job without TensorFlow, as a process of its own, that can be told to die at a given storage operation.

Arguments: one JSON object: directory, board (a file), index, count, steps (to save, one after the other), and perhaps
`die`: {"at": K, "step": S}: SIGKILL (or "signal") just before the K-th storage operation after the save of step S was
asked for.
Prints one JSON line for each save: {"step": S, "outcome": "committed"} or the name of the error.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from distckpt.bundle.payload import Payload
from distckpt.errors import DistckptError
from distckpt.model import Extent, Piece, Place, TensorSpec
from distckpt.options import Options
from distckpt.protocol.deadlines import Deadlines
from distckpt.protocol.plan import specs_digest
from distckpt.protocol.retention import KeepLatest
from distckpt.runtime.session import open_session
from distckpt.runtime.ticket import SaveRequest
from distckpt.storage.posix import PosixStorage
from distckpt.storage.posix_staged import PosixStagedFile

DEADLINES = Deadlines(
    resend_s=0.1, heartbeat_s=0.1, silence_s=5.0, disconnect_s=0.5, join_s=30.0, announce_s=10.0, write_s=20.0
)
DT_FLOAT = 1
SHAPES = {"embedding": (3000, 16), "kernel": (100, 100), "bias": (100,)}


def model_of(step: int) -> dict[str, Any]:
    """The model's values at `step`, the same in every process."""
    rng = np.random.default_rng(step)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}


class Snapshot:
    def __init__(self, step: int) -> None:
        self._model = model_of(step)

    def payloads(self, pieces: Any, *, own: bool) -> list[Payload]:
        found = []
        for piece in pieces:
            array = self._model[piece.tensor]
            part = None
            if piece.rows is not None:
                part = (piece.rows, *(Extent(0, size) for size in array.shape[1:]))
                array = array[piece.rows.start : piece.rows.end]
            data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            found.append(Payload(piece.tensor, DT_FLOAT, SHAPES[piece.tensor], data, part))
        return found

    def everything(self) -> list[Payload]:
        return self.payloads([Piece(name, array.nbytes) for name, array in self._model.items()], own=True)

    def release(self) -> None:
        pass


class FileBoard:
    """A file in a folder of the test's: this start's own, so it is absent until the chief has written it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def publish(self, text: str) -> None:
        temporary = self._path.with_suffix(".new")
        temporary.write_text(text)
        temporary.rename(self._path)

    def lookup(self, timeout_s: float) -> str:
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            if self._path.exists():
                return self._path.read_text()
            time.sleep(0.01)
        raise TimeoutError(str(self._path))


class Countdown:
    """Counts storage operations, and kills this process just before one of them."""

    def __init__(self) -> None:
        self.done = 0
        self.die_at: int | None = None
        self.signal: int = signal.SIGKILL

    def watch(self, owner: type, *names: str) -> None:
        for name in names:
            setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(operation)
        def counted(*args: Any, **kwargs: Any) -> Any:
            key = str(args[1]) if len(args) > 1 else ""
            if "alive.json" not in key:  # beats come when they come
                self.done += 1
                if self.done == self.die_at:
                    self.die_at = None
                    os.kill(os.getpid(), self.signal)
            return operation(*args, **kwargs)

        return counted


def tell(**line: Any) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def main() -> None:
    told = json.loads(sys.argv[1])
    countdown = Countdown()
    countdown.watch(PosixStorage, "put_if_absent", "put", "delete", "stage", "publish", "discard")
    countdown.watch(PosixStagedFile, "write_at", "seal")
    place = Place(told["index"], told["count"], ("127.0.0.1:0",) * told["count"])
    options = Options(deadlines=DEADLINES, job="faults")
    session = open_session(
        told["directory"], place, FileBoard(Path(told["board"])), KeepLatest(2), options, lambda *_: None
    )
    specs = tuple(
        TensorSpec(name, DT_FLOAT, shape, int(np.prod(shape)) * 4, divisible=True)
        for name, shape in sorted(SHAPES.items())
    )
    tell(live=[each.name for each in session.checkpoints])
    for step in told["steps"]:
        countdown.done = 0
        if told.get("die", {}).get("step") == step:
            countdown.die_at = told["die"]["at"]
            countdown.signal = told["die"].get("signal", signal.SIGKILL)
        request = SaveRequest(step, f"ckpt-{step}", specs, specs_digest(specs), 0, {})
        try:
            session.agent.begin_save(request, Snapshot(step)).outcome.result()
            outcome = "committed"
        except DistckptError as error:
            outcome = type(error).__name__
        tell(step=step, outcome=outcome)
    session.close()


if __name__ == "__main__":
    main()
