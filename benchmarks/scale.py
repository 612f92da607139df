"""`make bench-scale`: what grows with the number of tensors, of variables and of saves, and how one process writes.

The index, the verification and the plan of 1,000 to 100,000 tensors; opening a directory whose journal has 100,000
records; the verification of 512 MiB beside a bare read of them; a capture of 10,000 variables; a `step_end` when there
is nothing to do; what snapshots in memory (`snapshot_every`) add to a training step that writes all of 300 variables;
one process that writes one share (writing.py). Prints tables; with --json, writes the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from writing import of_writing

from distckpt.bundle.index import encode_index
from distckpt.bundle.names import data_file, index_file
from distckpt.bundle.parallel import for_each
from distckpt.bundle.payload import Payload
from distckpt.bundle.verify import verify
from distckpt.bundle.writer import write_share
from distckpt.journal.log import Journal
from distckpt.journal.names import INTERVAL
from distckpt.journal.process import this_process
from distckpt.journal.records import CommitRecord, RetireRecord
from distckpt.model import Checkpoint, FileRecord, TensorSpec
from distckpt.protocol.plan import plan, specs_digest
from distckpt.storage.memory import MemoryStorage
from distckpt.storage.posix import PosixStorage
from distckpt.text import columns

DT_FLOAT = 1
ELEMENTS = 16
REPEATS = 5
THREADS = 2
READ_BYTES = 8 << 20
MODEL_BYTES, VARIABLES, STEPS = 256 << 20, 300, 100
FILES_OF_A_SAVE = ("data-00000-of-00002", "data-00001-of-00002", "manifest.json", "index")
RECORDS_OF_A_SAVE = 2


def timed(act: Callable[[], Any]) -> float:
    """Milliseconds, the median of some."""
    seen = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        act()
        seen.append(time.perf_counter() - begun)
    return 1000 * statistics.median(seen)


def of_tensors(count: int, directory: str) -> dict[str, float]:
    """Milliseconds for a checkpoint of `count` tensors of 64 bytes."""
    storage = PosixStorage.create(f"{directory}/{count}")
    data = np.zeros(4 * ELEMENTS, np.uint8)
    names = [f"model/layer-{number // 10}/variable-{number % 10}/.ATTRIBUTES/VARIABLE_VALUE" for number in range(count)]
    payloads = [Payload(name, DT_FLOAT, (ELEMENTS,), data) for name in names]
    specs = [TensorSpec(name, DT_FLOAT, (ELEMENTS,), data.size, divisible=True) for name in names]
    file = storage.stage(1, "share")
    entries, _ = write_share(payloads, file, threads=2)
    storage.publish(file.seal(), data_file("ckpt-1", 0, 1))
    storage.put(index_file("ckpt-1"), encode_index([entries]))
    assert verify(storage, "ckpt-1") == []
    return {
        "plan": timed(lambda: plan(specs, [0, 0])),
        "digest": timed(lambda: specs_digest(specs)),
        "index": timed(lambda: encode_index([entries])),
        "verification": timed(lambda: verify(storage, "ckpt-1")),
    }


def of_journal(records: int, directory: str) -> dict[str, float]:
    """How many milliseconds a directory with at least that many records takes to open, shortly before a compaction.

    The records are written by the journal itself, into memory; what it leaves there is copied into the directory.
    """
    memory = MemoryStorage()
    journal = Journal.open(memory)
    journal.begin(job="benchmark", process=this_process(), world=(), timestamp=0.0)
    compacted = step = 0
    while journal.state.slot < records or journal.state.slot - compacted < INTERVAL - RECORDS_OF_A_SAVE:
        files = tuple(FileRecord(f"ckpt-{step}.{kind}", 64, f"1/{step:08d}-{kind}") for kind in FILES_OF_A_SAVE)
        journal.append(CommitRecord(Checkpoint(f"ckpt-{step}", step, float(step), 1, files, "0" * 64)))
        if step:
            journal.append(RetireRecord((f"ckpt-{step - 1}",)))
        if journal.compact():
            compacted = journal.state.slot
        step += 1
    storage = PosixStorage.create(f"{directory}/journal")
    for key in memory.keys(""):
        storage.put(key, memory.read(key))
    assert Journal.open(storage).state == journal.state
    return {f"opening a journal of {journal.state.slot:,} records, ms": timed(lambda: Journal.open(storage))}


def of_verification(directory: str, mib: int) -> list[tuple[str, str]]:
    """How fast a checkpoint of large tensors is verified, beside a bare read of its file by as many threads: when the
    kernel was asked to forget it, and when it is in memory.
    """
    storage, file = PosixStorage.create(f"{directory}/verified"), data_file("ckpt-1", 0, 1)
    data = np.random.default_rng(0).integers(0, 256, 16 << 20, np.uint8)
    payloads = [Payload(f"tensor-{number:04}", DT_FLOAT, (data.size // 4,), data) for number in range(mib // 16)]
    staged = storage.stage(1, "share")
    entries, size_bytes = write_share(payloads, staged, threads=THREADS)
    storage.publish(staged.seal(), file)
    storage.put(index_file("ckpt-1"), encode_index([entries]))

    def read(offset: int) -> None:
        storage.read_into(file, offset, [np.empty(min(READ_BYTES, size_bytes - offset), np.uint8)])

    def gigabytes_per_s(act: Callable[[], Any], *, cold: bool) -> float:
        with open(storage.directory / file, "rb") as whole:  # noqa: PTH123 - for its descriptor
            seen = []
            for _ in range(REPEATS):
                if cold:
                    os.posix_fadvise(whole.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                begun = time.perf_counter()
                act()
                seen.append(size_bytes / 1e9 / (time.perf_counter() - begun))
        return statistics.median(seen)

    rows = []
    for what, cold in (("forgotten by the kernel", True), ("in memory", False)):
        bare = gigabytes_per_s(lambda: for_each(read, range(0, size_bytes, READ_BYTES), THREADS), cold=cold)
        checked = gigabytes_per_s(lambda: verify(storage, "ckpt-1", threads=THREADS), cold=cold)
        told = f"{checked:.2f} GB/s, {checked / bare:.2f} of a bare read"
        rows.append((f"verifying {mib:,} MiB, {what}", told))
    return rows


def of_training(directory: str) -> dict[str, float]:
    import tensorflow as tf  # noqa: PLC0415 - what comes before needs none, and its threads would be in the way

    import distckpt  # noqa: PLC0415 - the same
    from distckpt.tensors.cluster import ALONE  # noqa: PLC0415 - the same
    from distckpt.tensors.source import Source  # noqa: PLC0415 - the same

    checkpoint = tf.train.Checkpoint(variables=[tf.Variable(tf.zeros([ELEMENTS])) for _ in range(10_000)])
    source = Source(checkpoint, ALONE)
    source.layout()

    def look_and_capture() -> None:
        source.layout()
        source.capture(looked=True).release()

    captured = timed(look_and_capture)
    few = tf.train.Checkpoint(variable=tf.Variable(0.0))
    with distckpt.CheckpointManager(few, f"{directory}/manager", 1, save_policy=distckpt.EverySteps(10**9)) as manager:
        manager.step_end(1)
        calls = 10_000
        idle = timed(lambda: [manager.step_end(step) for step in range(2, calls + 2)]) / calls
    return {"capturing 10,000 variables, ms": captured, "step_end, nothing to do, µs": 1000 * idle}


def report(found: dict[str, Any]) -> str:
    """The tables."""
    rows: list[tuple[str, ...]] = [("", "PLAN", "DIGEST", "INDEX", "VERIFICATION")]
    rows += [(f"{n:,} tensors", *(f"{ms:,.1f} ms" for ms in each.values())) for n, each in found["tensors"].items()]
    others = [(name, f"{value:,.2f}") for name, value in found["others"].items()] + found["told"]
    written = found["writing"]
    writing = [(way, f"{1000 * s:,.1f} ms") for way, s in written["median_s"].items()]
    writing += [(name, f"{ratio:.2f}") for name, ratio in written["ratios"].items()]
    tables = [columns(rows, right=(1, 2, 3, 4)), columns(others, right=(1,)), columns(writing, right=(1,))]
    tables[-1].insert(0, f"One process writes {written['bytes'] / 2**20:,.0f} MiB")
    return "\n\n".join("\n".join(table) for table in tables)


def of_snapshots() -> list[tuple[str, str]]:
    """A step on a model of 256 MiB, with nothing kept, and with what is kept for every 10th and every step: the mean
    time, and the memory of this process at the end beside the first.
    """
    import tensorflow as tf  # noqa: PLC0415 - as above

    from distckpt.tensors.cluster import ALONE  # noqa: PLC0415 - the same
    from distckpt.tensors.snapshot import Snapshot  # noqa: PLC0415 - the same
    from distckpt.tensors.source import Source  # noqa: PLC0415 - the same

    variables = [tf.Variable(tf.zeros([MODEL_BYTES // 4 // VARIABLES])) for _ in range(VARIABLES)]

    @tf.function  # type: ignore[untyped-decorator]  # TensorFlow has no types
    def train() -> None:
        for variable in variables:
            variable.assign_add(tf.ones_like(variable))

    source = Source(tf.train.Checkpoint(variables=variables), ALONE)
    source.layout()
    train()
    rows = []
    for every in (None, 10, 1):
        kept: deque[Snapshot] = deque()
        begun = time.perf_counter()
        for step in range(1, STEPS + 1):
            train()
            if every is not None and step % every == 0:
                source.layout()
                kept.append(source.capture(looked=True))
            while len(kept) > (2 if every == 1 else 1):  # the protocol's rule, for steps that all workers take together
                kept.popleft().release()
        each_ms = 1000 * (time.perf_counter() - begun) / STEPS
        what = "nothing kept" if every is None else f"snapshot_every={every}"
        rows.append((f"a step of {VARIABLES} variables, {what}", f"{each_ms:,.1f} ms, {_resident_mb():,.0f} MB"))
        while kept:
            kept.pop().release()
    return rows


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000, help="of the journal (100000)")
    parser.add_argument("--mib", type=int, default=512, help="of the checkpoint that is verified (512)")
    parser.add_argument("--directory", default=None, help="where to write; default: the system's temporary directory")
    parser.add_argument("--share-mib", type=int, default=128, help="size of the share that one process writes (128)")
    parser.add_argument("--rounds", type=int, default=11, help="how often it is written, the first not counted (11)")
    parser.add_argument("--json", default=None, help="also write the figures to this file")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=told.directory) as directory:
        found = {
            "tensors": {count: of_tensors(count, directory) for count in (1_000, 10_000, 100_000)},
            "others": {**of_journal(told.records, directory), **of_training(directory)},
            "told": [*of_verification(directory, told.mib), *of_snapshots()],
            "writing": of_writing(directory, told.share_mib, told.rounds),
        }
    sys.stdout.write(report(found) + "\n")
    if told.json:
        Path(told.json).write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
