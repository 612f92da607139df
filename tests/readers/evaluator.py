"""An evaluator, as a process of its own. Arguments: the directory, a way to read, how many checkpoints.

"newest" and "every" read that many, comparing every checksum and every value; "hold" takes one, says so, and waits
for its standard input to end while it holds it. Prints the step of each as it comes.
"""

from __future__ import annotations

import sys
from itertools import islice

import numpy as np

import distckpt
from distckpt.bundle.reader import BundleReader
from distckpt.bundle.verify import verify
from distckpt.storage.posix import PosixStorage

TIMEOUT_S = 60


def check(directory: str, name: str) -> None:
    storage = PosixStorage(directory)
    faults = verify(storage, name)
    assert not faults, (name, faults)
    reader = BundleReader(storage, name)
    for tensor in ("embedding", "kernel", "bias"):
        values = set(np.frombuffer(reader.read(tensor).data, np.float32))
        assert values == {float(name.removeprefix("ckpt-"))}, (name, tensor, values)


def main() -> None:
    directory, way, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
    paths = distckpt.checkpoints_iterator(directory, timeout=TIMEOUT_S, every=way == "every")
    for path in islice(paths, number):
        name = path.removeprefix(directory).lstrip("/")
        sys.stdout.write(name.removeprefix("ckpt-") + "\n")
        sys.stdout.flush()
        if way == "hold":
            sys.stdin.read()
        check(directory, name)


if __name__ == "__main__":
    main()
