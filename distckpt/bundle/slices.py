"""Slices as TensorFlow stores them: under a key of their own, and listed in the tensor's entry.

In a key and in the proto a dimension that is taken whole is written as such, (0, -1) here, and is the same slice as one
with start 0 and the dimension's length: TensorFlow writes either. Ours are always written the first way. In
`distckpt.model` every extent is explicit.
"""

from __future__ import annotations

from collections.abc import Sequence

from distckpt.bundle.ordered_code import (
    decode_number,
    decode_signed,
    decode_string,
    encode_number,
    encode_signed,
    encode_string,
)
from distckpt.bundle.v1 import bundle_pb2 as pb
from distckpt.model import Extent, Slice

SLICE_KEY_PREFIX = encode_number(0)
StoredExtents = tuple[tuple[int, int], ...]
"""(start, length) for each dimension; length -1: the whole dimension."""

_WHOLE = (0, -1)


def extents_of(part: Slice, shape: Sequence[int]) -> StoredExtents:
    """How `part` of a tensor of `shape` is stored."""
    return tuple(
        _WHOLE if extent == Extent(0, dim) else (extent.start, extent.length)
        for extent, dim in zip(part, shape, strict=True)
    )


def is_whole(part: Slice | None, shape: Sequence[int]) -> bool:
    """Whether this is the whole tensor: then it is stored as one, not as a slice."""
    return part is None or all(extent == Extent(0, dim) for extent, dim in zip(part, shape, strict=True))


def is_rows(part: Slice, shape: Sequence[int]) -> bool:
    """Whether these are rows of the tensor, at least one, as they lie in its memory: cut along the first axis alone."""
    return bool(part) and part[0].length > 0 and is_whole(part[1:], shape[1:])


def held_shape(shape: tuple[int, ...], part: Slice | None) -> tuple[int, ...]:
    """The shape of what is stored: the slice's, or that of the whole tensor."""
    return shape if part is None else tuple(extent.length for extent in part)


def resolve(extents: StoredExtents, shape: Sequence[int]) -> Slice:
    """The slice of a tensor of `shape` that `extents` stand for. Raises ValueError where it does not fit the shape."""
    if len(extents) != len(shape):
        raise ValueError(f"a slice of rank {len(extents)} cannot be of a tensor of rank {len(shape)}")
    part = tuple(Extent(0, dim) if pair == _WHOLE else Extent(*pair) for pair, dim in zip(extents, shape, strict=True))
    if any(extent.start < 0 or extent.length < 0 or extent.end > dim for extent, dim in zip(part, shape, strict=True)):
        raise ValueError(f"the slice {describe(part)} reaches out of the shape {list(shape)}")
    return part


def describe(part: Slice) -> str:
    """For people: `[0:3, 0:2]`."""
    return "[" + ", ".join(f"{extent.start}:{extent.end}" for extent in part) + "]"


def encode_slice_key(name: bytes, extents: StoredExtents) -> bytes:
    numbers = b"".join(encode_signed(start) + encode_signed(length) for start, length in extents)
    return SLICE_KEY_PREFIX + encode_string(name) + encode_number(len(extents)) + numbers


def decode_slice_key(key: bytes) -> tuple[bytes, StoredExtents]:
    """The tensor's name and the extents. Raises ValueError for what is no slice key."""
    _, position = decode_number(key, 0)
    name, position = decode_string(key, position)
    rank, position = decode_number(key, position)
    extents = []
    for _ in range(rank):
        start, position = decode_signed(key, position)
        length, position = decode_signed(key, position)
        extents.append((start, length))
    if position != len(key):
        raise ValueError("a slice key goes on after its end")
    return name, tuple(extents)


def encode_slice_proto(extents: StoredExtents) -> pb.TensorSliceProto:
    extent = pb.TensorSliceProto.Extent
    return pb.TensorSliceProto(
        extent=[extent() if pair == _WHOLE else extent(start=pair[0], length=pair[1]) for pair in extents]
    )


def decode_slice_proto(proto: pb.TensorSliceProto) -> StoredExtents:
    return tuple(
        (extent.start, extent.length)
        if extent.HasField("length")
        else _WHOLE  # as TensorFlow: a start alone is ignored
        for extent in proto.extent
    )
