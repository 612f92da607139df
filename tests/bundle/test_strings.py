from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distckpt.bundle.byte_stream import ByteStream
from distckpt.bundle.checksum import crc32c, mask
from distckpt.bundle.dtypes import STRING, VARIANT
from distckpt.bundle.strings import checksum_elements, decode_strings, encode_strings

elements_lists = st.lists(st.binary(max_size=300), max_size=30)


@given(elements_lists)
def test_strings_are_decoded_as_they_were_encoded(elements: list[bytes]) -> None:
    data, crc = encode_strings(elements)
    assert data.dtype == np.uint8
    assert data.ndim == 1
    assert decode_strings(data.tobytes(), len(elements), crc) == elements


@given(elements_lists, st.data())
def test_no_byte_of_strings_can_change_unseen(elements: list[bytes], data: st.DataObject) -> None:
    encoded, crc = encode_strings(elements)
    changed = bytearray(encoded.tobytes())
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ValueError):
        decode_strings(bytes(changed), len(elements), crc)


@given(elements_lists)
def test_a_wrong_count_is_seen(elements: list[bytes]) -> None:
    data, crc = encode_strings(elements)
    with pytest.raises(ValueError):
        decode_strings(data.tobytes(), len(elements) + 1, crc)


def test_large_strings_are_summed_in_small_chunks() -> None:
    elements = [bytes([n]) * n * 1000 for n in range(100)]
    data, crc = encode_strings(elements)
    content, longest = data.tobytes(), 0

    def fetch(offset: int, length: int) -> bytes:
        nonlocal longest
        longest = max(longest, length)
        return content[offset : offset + length]

    assert checksum_elements(ByteStream(fetch, len(content), 4096), STRING, len(elements)) == crc
    assert longest <= 4096


def test_bytes_that_end_too_early_are_an_error() -> None:
    data, _ = encode_strings([b"abc" * 1000])
    stream = ByteStream(lambda offset, length: data.tobytes()[offset : min(offset + length, 100)], data.size, 4096)
    with pytest.raises(ValueError, match="ends in the middle"):
        checksum_elements(stream, STRING, 1)


def test_bytes_beyond_the_elements_are_found() -> None:
    data, crc = encode_strings([b"ab"])
    with pytest.raises(ValueError, match="its elements take 2 bytes, and there are 3"):
        decode_strings(data.tobytes() + b"x", 1, crc)


def a_variant(content: bytes, stored: int | None = None) -> bytes:
    """One element as TensorFlow writes it, with the checksum `stored` in place of the right one."""
    crc = crc32c(content, crc32c(len(content).to_bytes(8, "little")))
    return bytes([len(content)]) + content + (mask(crc) if stored is None else stored).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("data", "told"),
    [(a_variant(b"abc") + b"x", "1 bytes are left over"), (a_variant(b"abc", stored=7), "a checksum within its data")],
)
def test_variants_with_bytes_left_over_or_a_wrong_checksum_within_are_found(data: bytes, told: str) -> None:
    checksum_elements(ByteStream.of(a_variant(b"abc")), VARIANT, 1)
    with pytest.raises(ValueError, match=told):
        checksum_elements(ByteStream.of(data), VARIANT, 1)
