"""The ordered code against the format's description, spelt out digit by digit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distckpt.bundle.ordered_code import (
    decode_number,
    decode_signed,
    decode_string,
    encode_number,
    encode_signed,
    encode_string,
)
from distckpt.bundle.slices import decode_slice_key, encode_slice_key

unsigned = st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 300))
signed = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-9000, 9000))
names = st.one_of(st.binary(max_size=20), st.lists(st.sampled_from([0, 1, 254, 255])).map(bytes))


def signed_by_the_book(value: int) -> bytes:
    """Sign bit, size bits equal to it (one for each byte after the first), a delimiter, two's complement: as text."""
    length = next(n for n in range(1, 11) if -(2 ** (7 * n - 1)) <= value < 2 ** (7 * n - 1))
    sign, delimiter = ("1", "0") if value >= 0 else ("0", "1")
    payload_bits = 8 * length - length - 1
    payload = format(value % 2**payload_bits, f"0{payload_bits}b")
    return int(sign * length + delimiter + payload, 2).to_bytes(length, "big")


@given(signed)
def test_a_signed_number_is_encoded_by_the_book(value: int) -> None:
    assert encode_signed(value) == signed_by_the_book(value)
    assert decode_signed(b"?" + encode_signed(value) + b"?", 1) == (value, 1 + len(encode_signed(value)))


@pytest.mark.parametrize(
    ("value", "code"),
    [(0, "80"), (3, "83"), (-1, "7f"), (63, "bf"), (-64, "40"), (64, "c040"), (0x424242, "f0424242"), (-0x800, "3800")],
)
def test_signed_numbers_of_tensorflows_own_comments(value: int, code: str) -> None:
    assert encode_signed(value).hex() == code


@given(unsigned)
def test_an_unsigned_number_is_its_length_and_its_bytes(value: int) -> None:
    code = encode_number(value)
    assert code[0] == len(code) - 1
    assert int.from_bytes(code[1:], "big") == value
    assert code[1:2] != b"\x00"
    assert decode_number(code, 0) == (value, len(code))


@given(names)
def test_a_string_is_escaped_byte_by_byte(value: bytes) -> None:
    escapes = {0: b"\x00\xff", 255: b"\xff\x00"}
    assert encode_string(value) == b"".join(escapes.get(byte, bytes((byte,))) for byte in value) + b"\x00\x01"
    assert decode_string(encode_string(value), 0) == (value, len(encode_string(value)))


@given(signed, signed)
def test_signed_numbers_sort_as_their_codes(a: int, b: int) -> None:
    assert (a < b) == (encode_signed(a) < encode_signed(b))


@given(names, names)
def test_strings_sort_as_their_codes(a: bytes, b: bytes) -> None:
    assert (a < b) == (encode_string(a) < encode_string(b))


@given(names, st.lists(st.tuples(signed, signed), max_size=5).map(tuple))
def test_a_slice_key_says_name_and_extents(name: bytes, extents: tuple[tuple[int, int], ...]) -> None:
    assert decode_slice_key(encode_slice_key(name, extents)) == (name, extents)


def test_the_slice_key_of_the_formats_description() -> None:
    assert encode_slice_key(b"p", ((0, 3), (0, -1))) == bytes.fromhex("00 700001 0102 8083 807f")


@given(st.binary(max_size=30))
def test_any_bytes_are_a_slice_key_or_refused(key: bytes) -> None:
    key = b"\x00" + key
    try:
        name, extents = decode_slice_key(key)
    except ValueError:
        return
    assert encode_slice_key(name, extents) == key
