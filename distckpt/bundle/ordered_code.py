"""The ordered code of TensorFlow's slice keys (core/lib/strings/ordered_code.cc): bytes that sort as what they encode.

The decoders take (data, position), return (value, position after it), and raise ValueError for anything that the
encoder would not have written.
"""

from __future__ import annotations

import re

_STRING = re.compile(rb"((?:[^\x00\xff]++|\x00\xff|\xff\x00)*+)\x00\x01")
_ESCAPE = re.compile(rb"\x00\xff|\xff\x00")
_NUMBER_MAX_BYTES = 9
_SIGNED_MAX_BYTES = 10


def encode_number(value: int) -> bytes:
    """An unsigned 64-bit number: how many bytes, then those, big-endian, without leading zeros."""
    length = (value.bit_length() + 7) // 8
    return bytes((length,)) + value.to_bytes(length, "big")


def decode_number(data: bytes, position: int) -> tuple[int, int]:
    end = position + 1 + (data[position] if position < len(data) else 0)
    value = int.from_bytes(data[position + 1 : end], "big")
    if encode_number(value) != data[position:end] or end - position > _NUMBER_MAX_BYTES:
        raise ValueError("not a number in ordered code")
    return value, end


def encode_string(value: bytes) -> bytes:
    """00 is escaped as 00 FF, FF as FF 00; the end is 00 01."""
    return b"\xff\x00".join(part.replace(b"\x00", b"\x00\xff") for part in value.split(b"\xff")) + b"\x00\x01"


def decode_string(data: bytes, position: int) -> tuple[bytes, int]:
    match = _STRING.match(data, position)
    if match is None:
        raise ValueError("not a string in ordered code")
    return _ESCAPE.sub(lambda escape: escape[0][:1], match[1]), match.end()


def encode_signed(value: int) -> bytes:
    """A signed 64-bit number: n bytes hold 7n - 1 bits and their sign; n leading bits say n, inverted if negative."""
    length = (value if value >= 0 else ~value).bit_length() // 7 + 1
    sign_extended = value & ((1 << (8 * length)) - 1)
    return (sign_extended ^ _header(length)).to_bytes(length, "big")


def decode_signed(data: bytes, position: int) -> tuple[int, int]:
    head = int.from_bytes(data[position : position + 2].ljust(2, b"\x00"), "big")
    zeros = head ^ 0xFFFF if head & 0x8000 else head
    length = 16 - zeros.bit_length()
    end = position + length
    if end > len(data) or length > _SIGNED_MAX_BYTES:
        raise ValueError("not a signed number in ordered code")
    value = int.from_bytes(data[position:end], "big") ^ _header(length)
    if value >> (8 * length - 1):
        value -= 1 << (8 * length)
    if encode_signed(value) != data[position:end]:
        raise ValueError("a signed number in ordered code is longer than it need be")
    return value, end


def _header(length: int) -> int:
    return ((1 << length) - 1) << (7 * length)
