"""TensorFlow's DataType numbers (core/framework/types.proto): their names, sizes, and which of them can be sliced."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

STRING = 7
VARIANT = 21


@dataclass(frozen=True, slots=True)
class DType:
    """`item_bytes` is what an element takes in a data file: 0 for the variable-length ones (string, variant).

    `sliceable`: TensorFlow 2.21 can put a tensor together again from slices (BundleReader::GetSliceValue has the list).
    One of another type must be stored whole, or it can only be restored in the very slices that it was saved in.
    """

    number: int
    name: str
    item_bytes: int
    sliceable: bool

    @property
    def variable_length(self) -> bool:
        return self.item_bytes == 0


# Types of less than a byte take a byte each.
_TABLE = """
1 float32 4 sliceable
2 float64 8 sliceable
3 int32 4 sliceable
4 uint8 1 sliceable
5 int16 2 sliceable
6 int8 1 sliceable
7 string 0
8 complex64 8 sliceable
9 int64 8 sliceable
10 bool 1 sliceable
11 qint8 1 sliceable
12 quint8 1 sliceable
13 qint32 4 sliceable
14 bfloat16 2 sliceable
15 qint16 2
16 quint16 2
17 uint16 2
18 complex128 16 sliceable
19 float16 2
21 variant 0
22 uint32 4
23 uint64 8
24 float8_e5m2 1
25 float8_e4m3fn 1
26 float8_e4m3fnuz 1
27 float8_e4m3b11fnuz 1
28 float8_e5m2fnuz 1
29 int4 1 sliceable
30 uint4 1 sliceable
31 int2 1
32 uint2 1
33 float4_e2m1fn 1
"""


def _parse(line: str) -> DType:
    number, name, item_bytes, *can = line.split()
    return DType(int(number), name, int(item_bytes), bool(can))


DTYPES: Mapping[int, DType] = MappingProxyType(
    {dtype.number: dtype for dtype in map(_parse, _TABLE.strip().splitlines())}
)

VARIABLE_LENGTH = frozenset(number for number, dtype in DTYPES.items() if dtype.variable_length)


def dtype_of(number: int) -> DType:
    """Raises ValueError for a number that no tensor in a checkpoint can have."""
    try:
        return DTYPES[number]
    except KeyError:
        raise ValueError(f"there is no data type {number} that a checkpoint could hold") from None


def check_size(dtype: DType, shape: tuple[int, ...], size_bytes: int) -> None:
    """Raises ValueError unless a tensor (or slice) of this shape can take exactly `size_bytes` in a data file."""
    elements = math.prod(shape)
    if dtype.variable_length:
        if size_bytes < elements:
            raise ValueError(f"{elements} elements of {dtype.name} cannot fit in {size_bytes} bytes")
    elif size_bytes != elements * dtype.item_bytes:
        raise ValueError(f"{dtype.name}{list(shape)} takes {elements * dtype.item_bytes} bytes, not {size_bytes}")
