"""The bytes of a tensor on the host, and a tensor of bytes on the host, without a copy where that can be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from distckpt.bundle.parallel import for_each
from distckpt.bundle.payload import Payload

_WORTH_SHARING_BYTES = 1 << 14
_TOGETHER_MAX = 256
_NATIVE_KINDS = "iufcb"
"""The dtypes that NumPy itself knows, and so exports by DLPack."""


def fetch(tensor: Any) -> Any:
    """The tensor on this task: a copy where it is on another one, such as a parameter server."""
    with tf.device("CPU:0"):
        return tf.identity(tensor)


def host_bytes(tensor: Any) -> NDArray[np.uint8]:
    """The tensor's elements, row-major, as a read-only view of TensorFlow's own buffer, which it keeps alive.

    `tensor` is an eager tensor of a fixed-width dtype. One on an accelerator is copied to the host first (that is why
    this is called behind the training step). `np.asarray` shares the buffer also for bfloat16 and its kin, which have
    no buffer format; `tensor.numpy()` would copy, at 0.5 GB/s.
    """
    on_host = tensor if "device:CPU" in tensor.device else tensor.cpu()
    elements = on_host if on_host.shape.rank else on_host.numpy()  # a scalar bfloat16 tensor gives NumPy no array
    view: NDArray[np.uint8] = np.asarray(elements).reshape(-1).view(np.uint8)
    view.flags.writeable = False
    return view


def all_host_bytes(tensors: Mapping[str, Any]) -> dict[str, NDArray[np.uint8]]:
    """`host_bytes` of each, the copies from different devices side by side."""
    by_device: dict[str, list[str]] = {}
    for name, tensor in tensors.items():
        by_device.setdefault(tensor.device, []).append(name)
    found: dict[str, NDArray[np.uint8]] = {}

    def copy(names: list[str]) -> None:
        found.update((name, host_bytes(tensors[name])) for name in names)

    for_each(copy, by_device.values(), len(by_device))
    return found


def row_bytes(whole: NDArray[np.uint8], rows: int, start: int, length: int) -> NDArray[np.uint8]:
    """The bytes of `length` rows from `start`, of a tensor that has `rows` of them."""
    if not 0 <= start <= start + length <= rows:
        raise ValueError(f"rows {start} to {start + length} of a tensor that has {rows}")
    width = whole.nbytes // rows if rows else 0
    return whole[start * width : (start + length) * width]


def can_share(dtype: Any) -> bool:
    """Whether `tensors_of` makes tensors of this tf.DType."""
    if dtype == tf.bfloat16:
        return True
    if not dtype.is_numpy_compatible:
        return False
    known = np.dtype(dtype.as_numpy_dtype)
    return known.isbuiltin == 1 and known.kind in _NATIVE_KINDS


def tensors_of(payloads: Iterable[Payload]) -> dict[str, Any]:
    """Eager tensors on this host of whole tensors' bytes, by name; a large one lives in their memory.

    That memory must be aligned (`bundle.kept.Memory`), or TensorFlow aborts the process, and belongs to the tensor.
    Small ones of the same shape are made together: one by one, each would take 20 µs.
    """
    alike: dict[tuple[int, tuple[int, ...]], list[Payload]] = {}
    tensors = {}
    for each in payloads:
        if each.data.nbytes >= _WORTH_SHARING_BYTES:
            tensors[each.name] = _sharing(each)
        else:
            alike.setdefault((each.dtype, each.shape), []).append(each)
    for same in alike.values():
        for start in range(0, len(same), _TOGETHER_MAX):
            some = same[start : start + _TOGETHER_MAX]
            tensors.update(zip((each.name for each in some), _copied(some), strict=True))
    return tensors


def _sharing(payload: Payload) -> Any:
    dtype = tf.dtypes.as_dtype(payload.dtype)
    exported = np.uint16 if dtype == tf.bfloat16 else dtype.as_numpy_dtype
    shared = tf.experimental.dlpack.from_dlpack(payload.data.view(exported).reshape(payload.shape).__dlpack__())
    return tf.bitcast(shared, dtype) if dtype == tf.bfloat16 else shared


def _copied(alike: Sequence[Payload]) -> list[Any]:
    """Of one dtype and shape."""
    dtype = tf.dtypes.as_dtype(alike[0].dtype)
    data = np.concatenate([each.data for each in alike]).view(dtype.as_numpy_dtype)
    tensors: list[Any] = tf.unstack(tf.constant(data.reshape(len(alike), *alike[0].shape)))
    return tensors
