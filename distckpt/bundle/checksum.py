"""CRC32C (Castagnoli), as TensorFlow uses it: plain in memory, masked on disk.

The heavy work is the crc32c package's, which takes bytes and C-contiguous arrays, and releases the GIL from 32 KiB on.
"""

from __future__ import annotations

from functools import lru_cache

import crc32c as package
import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL = 0x82F63B78  # reflected: bit 31 is x**0
_ONE = 1 << 31
_MASK_DELTA = 0xA282EAD8
_UINT32 = 0xFFFFFFFF


def crc32c(data: bytes | NDArray[np.uint8], crc: int = 0) -> int:
    """The checksum of what `crc` was the checksum of, followed by `data`."""
    return package.crc32c(data if isinstance(data, bytes) else data.data, crc)


def mask(crc: int) -> int:
    """What is stored: a CRC over data that itself holds CRCs is weak, so these are rotated and shifted away."""
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & _UINT32


def unmask(stored: int) -> int:
    rotated = (stored - _MASK_DELTA) & _UINT32
    return (rotated >> 17 | rotated << 15) & _UINT32


def combine(first: int, second: int, second_bytes: int) -> int:
    """The checksum of A followed by B, from those of A and B and the length of B: chunks may be summed in any order."""
    return _multiply(_power(second_bytes), first) ^ second


@lru_cache(maxsize=256)
def _power(num_bytes: int) -> int:
    """x**(8 * num_bytes) modulo the polynomial."""
    result, square = _ONE, _ONE >> 8
    while num_bytes:
        if num_bytes & 1:
            result = _multiply(square, result)
        square = _multiply(square, square)
        num_bytes >>= 1
    return result


def _multiply(a: int, b: int) -> int:
    """The product of two polynomials over GF(2), modulo the CRC's."""
    product = 0
    while a:
        if a & _ONE:
            product ^= b
        a = (a << 1) & _UINT32
        b = b >> 1 ^ (_POLYNOMIAL if b & 1 else 0)
    return product
