"""What a save consists of, known without copying anything: the specs that the workers plan by."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

import tensorflow as tf

from distckpt.errors import UnsupportedState
from distckpt.model import Extent, Slice, TensorSpec

VARIABLE_LENGTH = (tf.string, tf.variant)
"""Dtypes whose size in a file is known only from their values."""

ELEMENT_BYTES_GUESS = 16
"""The estimated size of an element of variable length."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What all workers hold alike.

    `replicated`: sorted by name, the same on all workers if their models are; never has a `part`. `digest` is theirs.
    `needs_collectives`: capturing it runs collectives, so all workers must capture, at the same step, or none.
    """

    replicated: tuple[TensorSpec, ...]
    digest: str
    needs_collectives: bool


def fixed_spec(name: str, dtype: Any, shape: Iterable[int]) -> TensorSpec:
    """The spec of a whole tensor whose elements have a fixed width."""
    extents = tuple(shape)
    size_bytes = prod(extents) * element_bytes(dtype)
    divisible = bool(extents) and extents[0] > 1
    return TensorSpec(name, dtype.as_datatype_enum, extents, size_bytes, divisible=divisible)


def tensor_spec(name: str, tensor: Any, part: Slice | None, full_shape: tuple[int, ...] | None) -> TensorSpec:
    """The spec of any tensor, also one that is itself the slice `part` of a tensor of shape `full_shape`."""
    dtype = tensor.dtype
    shape = tuple(tensor.shape.as_list())
    width = ELEMENT_BYTES_GUESS if dtype in VARIABLE_LENGTH else element_bytes(dtype)
    return TensorSpec(name, dtype.as_datatype_enum, full_shape or shape, prod(shape) * width, part)


def element_bytes(dtype: Any) -> int:
    """How many bytes an element takes in a file: as many as in memory (int4 takes a whole one)."""
    return int(dtype.as_numpy_dtype().itemsize)


def parse_slice(name: str, spec: str) -> tuple[tuple[int, ...], Slice]:
    """(full shape, slice) of TensorFlow's slice spec, such as `10 4 0,5:-` (ops/variables.py, SaveSliceInfo.spec)."""
    *sizes, extents = spec.split(" ")
    shape = tuple(int(size) for size in sizes)
    parts = extents.split(":")
    if len(parts) != len(shape):
        raise UnsupportedState(f"{name}: TensorFlow says it is the slice {spec!r}, which does not fit its rank")
    return shape, tuple(_extent(part, size) for part, size in zip(parts, shape, strict=True))


def _extent(part: str, size: int) -> Extent:
    if part == "-":
        return Extent(0, size)
    start, length = part.split(",")
    return Extent(int(start), int(length))
