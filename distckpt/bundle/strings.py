"""Tensors of variable-length elements in a data file: strings, and variants (each a serialized VariantTensorDataProto).

From WriteStringTensor and WriteVariantTensor in TensorFlow's tensor_bundle.cc. Strings: all lengths as varints, the
masked CRC of the lengths, all bytes. Variants: of each its length, its bytes, and a masked CRC of all so far. The
tensor's own CRC runs over the lengths as fixed-width integers instead of varints: it is not that of the file's bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from distckpt.bundle.byte_stream import ByteStream
from distckpt.bundle.checksum import crc32c, mask
from distckpt.bundle.dtypes import STRING
from distckpt.bundle.varint import encode_varint

Encoded = tuple[NDArray[np.uint8], int]
"""What goes into the file, and the tensor's CRC32C (plain): `data` and `crc32c` of a Payload."""

_BATCH = 65_536
_UINT32_MAX = 0xFFFFFFFF


def encode_strings(elements: Sequence[bytes]) -> Encoded:
    """A string tensor's elements, in row-major order."""
    lengths = [len(element) for element in elements]
    crc = _extend_by_lengths(0, lengths)
    stored = mask(crc).to_bytes(4, "little")
    data = b"".join(elements)
    content = b"".join([*map(encode_varint, lengths), stored, data])
    return np.frombuffer(content, np.uint8), crc32c(data, crc32c(stored, crc))


def decode_strings(data: bytes, count: int, crc: int) -> list[bytes]:
    """The `count` elements in `data`. Raises ValueError where they, or the tensor's checksum `crc`, do not match."""
    if checksum_elements(ByteStream.of(data), STRING, count) != crc:
        raise ValueError("the checksum does not match")
    if not data:
        return []
    lengths = [length for batch in _length_batches(ByteStream.of(data), count) for length in batch]
    elements, position = [], len(data) - sum(lengths)
    for length in lengths:
        elements.append(data[position : position + length])
        position += length
    return elements


def checksum_elements(stream: ByteStream, dtype: int, count: int) -> int:
    """The checksum of a tensor of type STRING or VARIANT that fills `stream`, in little memory.

    Raises ValueError for what cannot be `count` elements, or where a checksum within the data does not match.
    """
    if stream.remaining == 0 and count == 0:
        return 0
    return _checksum_strings(stream, count) if dtype == STRING else _checksum_variants(stream, count)


def _checksum_strings(stream: ByteStream, count: int) -> int:
    crc = total = 0
    for batch in _length_batches(stream, count):
        crc = _extend_by_lengths(crc, batch)
        total += sum(batch)
    crc = _extend_by_stored(crc, stream)
    if total != stream.remaining:
        raise ValueError(f"its elements take {total} bytes, and there are {stream.remaining}")
    return _extend_by_bytes(crc, stream, total)


def _checksum_variants(stream: ByteStream, count: int) -> int:
    crc = 0
    for _ in range(count):
        length = stream.varint()
        crc = crc32c(length.to_bytes(10, "little")[:8], crc)
        crc = _extend_by_stored(_extend_by_bytes(crc, stream, length), stream)
    if stream.remaining:
        raise ValueError(f"{stream.remaining} bytes are left over after its elements")
    return crc


def _length_batches(stream: ByteStream, count: int) -> Iterator[list[int]]:
    for start in range(0, count, _BATCH):
        yield [stream.varint() for _ in range(min(_BATCH, count - start))]


def _extend_by_lengths(crc: int, lengths: Sequence[int]) -> int:
    """Lengths count as uint32, and only those that do not fit as uint64: there were checkpoints before the latter."""
    if max(lengths, default=0) <= _UINT32_MAX:
        return crc32c(np.array(lengths, "<u4").tobytes(), crc)
    return crc32c(b"".join(n.to_bytes(4 if n <= _UINT32_MAX else 8, "little") for n in lengths), crc)


def _extend_by_stored(crc: int, stream: ByteStream) -> int:
    stored = stream.take(4)
    if int.from_bytes(stored, "little") != mask(crc):
        raise ValueError("a checksum within its data does not match")
    return crc32c(stored, crc)


def _extend_by_bytes(crc: int, stream: ByteStream, length: int) -> int:
    for chunk in stream.chunks(length):
        crc = crc32c(chunk, crc)
    return crc
