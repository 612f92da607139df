"""One process that writes one share: its bytes checksummed, written and made durable, and nothing else of a save.

Beside it, in turn, the same bytes written and made durable without a checksum by the same number of threads, and by
TensorFlow's own save, which calls no fsync. The share is 300 tensors of 1 to 8 units in TensorFlow's memory.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import limits
import numpy as np

from distckpt.bundle.payload import Payload
from distckpt.bundle.writer import write_share
from distckpt.storage.posix import PosixStorage
from distckpt.storage.sealing import sealed

TENSORS = 300
COLUMNS = 128
DT_FLOAT = 1
THREADS = {1: "1 thread", 2: "2 threads"}


def of_writing(directory: str, mib: int, rounds: int) -> dict[str, Any]:
    """Median seconds of each way after the first of `rounds`, and the ratios that the goals are about (above 1: faster
    than the other).
    """
    import tensorflow as tf  # noqa: PLC0415 - what else the caller measures needs none

    units = [1 + index % 8 for index in range(TENSORS)]
    rows = mib * 2**20 // (4 * COLUMNS * sum(units))
    tensors = [tf.random.normal([rows * unit, COLUMNS]) for unit in units]
    share = [_payload(index, tensor.numpy()) for index, tensor in enumerate(tensors)]
    together = np.concatenate([payload.data for payload in share])
    checkpoint = tf.train.Checkpoint(variables=[tf.Variable(tensor) for tensor in tensors])
    storage = PosixStorage.create(f"{directory}/writing")
    ways: dict[str, Callable[[Path], Any]] = {"TensorFlow": checkpoint.write}
    for threads, told in THREADS.items():
        ways[f"bare write + fsync, {told}"] = partial(limits.write, data=together, threads=threads)
        ways[f"distckpt, {told}"] = partial(_write, storage, share, threads)
    seen: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds):
        for way, act in ways.items():
            begun = time.perf_counter()
            act(storage.directory / f"file-{number}")
            seen[way].append(time.perf_counter() - begun)
            _clear(storage)
    median = {way: statistics.median(each[1:]) for way, each in seen.items()}
    ratios = {}
    for told in THREADS.values():
        ratios[f"bare / distckpt, {told}"] = median[f"bare write + fsync, {told}"] / median[f"distckpt, {told}"]
        ratios[f"TensorFlow / distckpt, {told}"] = median["TensorFlow"] / median[f"distckpt, {told}"]
    return {"bytes": together.size, "median_s": median, "ratios": ratios}


def _payload(index: int, values: Any) -> Payload:
    return Payload(f"variable-{index}", DT_FLOAT, values.shape, values.reshape(-1).view(np.uint8))


def _write(storage: PosixStorage, share: list[Payload], threads: int, path: Path) -> None:
    sealed(storage.stage(1, path.name), lambda file: write_share(share, file, threads=threads))


def _clear(storage: PosixStorage) -> None:
    for handle in storage.staged():
        storage.discard(handle)
    for path in storage.directory.glob("file-*"):
        path.unlink()
