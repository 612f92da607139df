"""Base-128 numbers, least significant group first, as protobuf and LevelDB write them."""

from __future__ import annotations

_MAX_BYTES = 10
_SMALL = [bytes((value,)) for value in range(128)]


def encode_varint(value: int) -> bytes:
    if value < 128:  # noqa: PLR2004 - one group of seven bits: nearly all there are
        return _SMALL[value]
    groups = bytearray()
    while value >= 128:  # noqa: PLR2004 - as above
        groups.append(value & 127 | 128)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def decode_varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """The number at `position` and the position after it. Raises ValueError if it is not over before `end`, or takes
    more than 64 bits.
    """
    value = shift = 0
    for at in range(position, min(end, position + _MAX_BYTES)):
        byte = data[at]
        value |= (byte & 127) << shift
        if byte < 128:  # noqa: PLR2004 - the last group has no eighth bit
            if value >> 64:
                break
            return value, at + 1
        shift += 7
    raise ValueError("a number does not end, or has more than 64 bits")
