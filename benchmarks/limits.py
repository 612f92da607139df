"""What this machine can do at best: the same bytes, by the same number of writers, without any checkpointing."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CHUNK_BYTES = 4 << 20


def write(path: Path, data: NDArray[np.uint8], threads: int = 1) -> None:
    """Writes a new file and makes it durable, as a share is: pwrite, then fsync."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)

    def write_chunk(start: int) -> None:
        os.pwrite(descriptor, data[start : start + CHUNK_BYTES].data, start)

    try:
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(write_chunk, range(0, data.size, CHUNK_BYTES)):
                pass
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(paths: list[Path]) -> list[NDArray[np.uint8]]:
    """The bytes of all files, read in one thread; all are in memory at the end, as one who uses them must have them."""
    held = []
    for path in paths:
        size = path.stat().st_size
        memory = np.empty(size, np.uint8)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            for start in range(0, size, CHUNK_BYTES):
                os.preadv(descriptor, [memory[start : start + CHUNK_BYTES].data], start)
        finally:
            os.close(descriptor)
        held.append(memory)
    return held


def drop_from_cache(paths: list[Path]) -> bool:
    """Asks the kernel to forget the files' pages, so that reading them goes to the disk. False: it cannot here."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError:
            return False
        finally:
            os.close(descriptor)
    return True
