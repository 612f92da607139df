"""One tensor's bytes (or one slice's), on the host, ready to be written into a data file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distckpt.model import Slice


@dataclass(frozen=True, slots=True, eq=False)
class Payload:
    """`data` is what goes into the file: C-contiguous, one-dimensional uint8, often a view of TensorFlow's own buffer.

    `shape` is the full tensor's; `part` the slice that `data` holds (None: all of it). `crc32c` is given where the
    tensor's checksum is not the CRC32C of `data` (strings, variants: see `bundle.strings`), else it is computed
    while writing.
    """

    name: str
    dtype: int
    shape: tuple[int, ...]
    data: NDArray[np.uint8]
    part: Slice | None = None
    crc32c: int | None = None
