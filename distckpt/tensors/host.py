"""The bytes of a tensor on the host, without a copy where the tensor is already there."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def host_bytes(tensor: Any) -> NDArray[np.uint8]:
    """The tensor's elements, row-major, as a read-only view of TensorFlow's own buffer, which it keeps alive.

    `tensor` is an eager tensor of a fixed-width dtype. One on an accelerator is copied to the host first (that is why
    this is called behind the training step). `np.asarray` shares the buffer also for bfloat16 and its kin, which have
    no buffer format; `tensor.numpy()` would copy, at 0.5 GB/s.
    """
    on_host = tensor if "device:CPU" in tensor.device else tensor.cpu()
    view: NDArray[np.uint8] = np.asarray(on_host).reshape(-1).view(np.uint8)
    view.flags.writeable = False
    return view


def row_bytes(whole: NDArray[np.uint8], rows: int, start: int, length: int) -> NDArray[np.uint8]:
    """The bytes of `length` rows from `start`, of a tensor that has `rows` of them."""
    if not 0 <= start <= start + length <= rows:
        raise ValueError(f"rows {start} to {start + length} of a tensor that has {rows}")
    width = whole.nbytes // rows if rows else 0
    return whole[start * width : (start + length) * width]
