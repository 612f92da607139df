"""A job of one worker without TensorFlow, as a process of its own: saves one step after the other, keeping one.

Arguments: the directory, and how many steps ("0": until its standard input ends). Each tensor of step S is full of S.
Prints "saved S" after each save.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from itertools import count
from typing import Any

import numpy as np

from distckpt.bundle.payload import Payload
from distckpt.model import Piece, Place, TensorSpec
from distckpt.options import Options
from distckpt.protocol.plan import specs_digest
from distckpt.protocol.retention import KeepLatest
from distckpt.runtime.session import open_session
from distckpt.runtime.ticket import SaveRequest

DT_FLOAT = 1
SHAPES = {"embedding": (3000, 16), "kernel": (100, 100), "bias": (100,)}
SPECS = tuple(TensorSpec(name, DT_FLOAT, shape, int(np.prod(shape)) * 4) for name, shape in sorted(SHAPES.items()))


class Snapshot:
    def __init__(self, step: int) -> None:
        self._step = step

    def payloads(self, pieces: Iterable[Piece], *, own: bool) -> list[Payload]:
        return [self._payload(piece.tensor) for piece in pieces]

    def release(self) -> None:
        pass

    def _payload(self, name: str) -> Payload:
        data = np.full(SHAPES[name], self._step, np.float32).reshape(-1).view(np.uint8)
        return Payload(name, DT_FLOAT, SHAPES[name], data, None)


class Board:
    """One worker alone tells nobody."""

    def publish(self, text: str) -> None:
        raise AssertionError(text)

    def lookup(self, timeout_s: float) -> str:
        raise AssertionError(timeout_s)


def main() -> None:
    directory, steps = sys.argv[1], int(sys.argv[2])
    ended = threading.Event()
    if not steps:
        threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    nothing: Any = lambda *_: None  # noqa: E731 - hears of commits, and does nothing
    session = open_session(directory, Place(0, 1), Board(), KeepLatest(1), Options(job="saving"), nothing)
    for step in count(1):
        last = ended.is_set() or step == steps  # seen before the save: one save begins after the end was told
        request = SaveRequest(step, f"ckpt-{step}", SPECS, specs_digest(SPECS), 0, {"step": float(step)})
        session.agent.begin_save(request, Snapshot(step)).outcome.result()
        sys.stdout.write(f"saved {step}\n")
        sys.stdout.flush()
        if last:
            break
    session.close()


if __name__ == "__main__":
    main()
