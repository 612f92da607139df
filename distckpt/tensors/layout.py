"""What a save consists of, known without copying anything: the specs that the workers plan by."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

from distckpt.bundle.dtypes import dtype_of
from distckpt.errors import UnsupportedState
from distckpt.model import Extent, Slice, TensorSpec

_ELEMENT_BYTES_GUESS = 16
"""The estimated size of an element of variable length."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What all workers hold alike.

    `replicated`: sorted by name, the same on all workers if their models are; never has a `part`. `digest` is theirs.
    `collective` are the names of those that are read by a collective: all workers must capture, at the same step, or
    none.
    """

    replicated: tuple[TensorSpec, ...]
    digest: str
    collective: tuple[str, ...]

    @property
    def needs_collectives(self) -> bool:
        return bool(self.collective)


def fixed_spec(name: str, dtype: Any, shape: Iterable[int]) -> TensorSpec:
    """The spec of a whole tensor whose elements have a fixed width."""
    extents = tuple(shape)
    number = dtype.as_datatype_enum
    kind = dtype_of(number)
    divisible = kind.sliceable and bool(extents) and extents[0] > 1
    return TensorSpec(name, number, extents, prod(extents) * kind.item_bytes, divisible=divisible)


def tensor_spec(name: str, tensor: Any, part: Slice | None, full_shape: tuple[int, ...] | None) -> TensorSpec:
    """The spec of any tensor, also one that is itself the slice `part` of a tensor of shape `full_shape`."""
    number = tensor.dtype.as_datatype_enum
    shape = tuple(tensor.shape.as_list())
    width = _ELEMENT_BYTES_GUESS if has_variable_length(tensor.dtype) else dtype_of(number).item_bytes
    return TensorSpec(name, number, full_shape or shape, prod(shape) * width, part)


def has_variable_length(dtype: Any) -> bool:
    """Whether the size of such a tensor in a file is known only from its values (strings, variants)."""
    return dtype_of(dtype.as_datatype_enum).variable_length


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
