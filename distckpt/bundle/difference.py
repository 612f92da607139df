"""What two checkpoints hold that is not the same, tensor by tensor, bit for bit. Without TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distckpt.bundle.dtypes import dtype_of
from distckpt.bundle.payload import Payload
from distckpt.bundle.reader import BundleReader

OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
"""Not compared: it is no tensor of the model, and its bytes differ between any two saves (a protobuf map's order)."""

_CHUNK_ELEMENTS = 1 << 20
_WIDE = {"i": np.longdouble, "u": np.longdouble, "f": np.float64, "c": np.complex128}
"""By NumPy's kind: in these a difference is exact, or nearly so."""


@dataclass(frozen=True, slots=True)
class Form:
    """TensorFlow's number of the type, and the shape."""

    dtype: int
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """`before` and `after` are None where the tensor is not there. If they are the same, its values differ:

    in so many `elements`, by at most `max_abs`. That is over the elements which are finite in both; None where there
    are none, or NumPy knows no numbers of this type. `elements` is None for strings and variants.
    """

    tensor: str
    before: Form | None
    after: Form | None
    elements: int | None = None
    max_abs: float | None = None


def differences(one: BundleReader, other: BundleReader) -> Iterator[Difference]:
    """By name. Takes the memory of the largest tensor twice. Raises CorruptCheckpoint, ObjectMissing."""
    for name in sorted((one.tensors.keys() | other.tensors.keys()) - {OBJECT_GRAPH}):
        before, after = _form(one, name), _form(other, name)
        if before != after or before is None:
            yield Difference(name, before, after)
        else:
            yield from _of_values(name, before, one.read(name), other.read(name))


def _form(reader: BundleReader, name: str) -> Form | None:
    if name not in reader.tensors:
        return None
    _, entry = reader.tensors[name][0]
    return Form(entry.dtype, entry.shape)


def _of_values(name: str, form: Form, one: Payload, other: Payload) -> Iterator[Difference]:
    dtype = dtype_of(form.dtype)
    if dtype.variable_length:
        if not np.array_equal(one.data, other.data):
            yield Difference(name, form, form)
        return
    elements, largest = 0, []
    step = _CHUNK_ELEMENTS * dtype.item_bytes
    for start in range(0, one.data.size, step):
        left, right = (each.data[start : start + step].reshape(-1, dtype.item_bytes) for each in (one, other))
        if np.array_equal(left, right):
            continue
        differ = (left != right).any(axis=1)
        elements += int(differ.sum())
        largest += _largest(dtype.name, left[differ], right[differ])
    if elements:
        yield Difference(name, form, form, elements, max(largest, default=None))


def _largest(dtype: str, left: NDArray[np.uint8], right: NDArray[np.uint8]) -> list[float]:
    """The largest absolute difference of those that are finite in both, if there are any."""
    numbers, others = _numbers(dtype, left), _numbers(dtype, right)
    if numbers is None or others is None:
        return []
    finite = np.isfinite(numbers) & np.isfinite(others)
    with np.errstate(over="ignore"):  # between the largest floats: then it is infinite
        gaps = np.abs(numbers[finite] - others[finite])
    return [float(gaps.max())] if gaps.size else []


def _numbers(dtype: str, data: NDArray[np.uint8]) -> NDArray[Any] | None:
    """None where NumPy has no such numbers."""
    if dtype == "bfloat16":  # the upper half of a float32
        return (data.view(np.uint16).reshape(-1).astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    try:
        known = np.dtype({"bool": "uint8"}.get(dtype, dtype.removeprefix("q")))
    except TypeError:
        return None
    if known.isbuiltin != 1:  # added to NumPy by another package, which may or may not be loaded
        return None
    return data.view(known).reshape(-1).astype(_WIDE[known.kind])
