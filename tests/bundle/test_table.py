from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distckpt.bundle.checksum import crc32c, mask
from distckpt.bundle.table import BLOCK_BYTES, encode_table
from distckpt.bundle.table_reader import decode_table
from distckpt.bundle.varint import decode_varint, encode_varint
from distckpt.errors import CorruptCheckpoint

tables = st.dictionaries(st.binary(max_size=12), st.binary(max_size=200), max_size=60)


def file_of(items: dict[bytes, bytes]) -> bytes:
    return encode_table(sorted(items.items()))


@given(tables)
def test_a_table_is_read_as_it_was_written(items: dict[bytes, bytes]) -> None:
    assert list(decode_table(file_of(items), "t")) == sorted(items.items())


def test_a_table_of_many_blocks_is_read_as_it_was_written() -> None:
    items = {b"key/%06d" % number: bytes(100) for number in range(10_000)}
    data = file_of(items)
    assert len(data) > 3 * BLOCK_BYTES
    assert list(decode_table(data, "t")) == sorted(items.items())


@given(st.integers(0, 2**64 - 1))
def test_a_varint_is_seven_bits_a_byte(value: int) -> None:
    code = encode_varint(value)
    assert sum((byte & 127) << 7 * place for place, byte in enumerate(code)) == value
    assert [byte >> 7 for byte in code] == [1] * (len(code) - 1) + [0]
    assert decode_varint(code, 0, len(code)) == (value, len(code))


@pytest.mark.parametrize("code", [b"", b"\x80", b"\x80" * 9 + b"\x02", b"\xff" * 10 + b"\x01"])
def test_a_varint_that_does_not_end_or_is_too_large_is_refused(code: bytes) -> None:
    with pytest.raises(ValueError, match="64 bits"):
        decode_varint(code, 0, len(code))


@given(tables, st.data())
def test_no_byte_of_a_table_can_change_unseen(items: dict[bytes, bytes], data: st.DataObject) -> None:
    file = bytearray(file_of(items))
    file[data.draw(st.integers(0, len(file) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CorruptCheckpoint, match=r"^t: "):
        list(decode_table(bytes(file), "t"))


@given(tables, st.data())
def test_a_table_cut_short_is_refused(items: dict[bytes, bytes], data: st.DataObject) -> None:
    file = file_of(items)
    with pytest.raises(CorruptCheckpoint):
        list(decode_table(file[: data.draw(st.integers(0, len(file) - 1))], "t"))


def with_first_block(change: bytes, kind: int) -> bytes:
    """A table of one block whose content is `change`, its type byte `kind`, with checksums that are right."""
    typed = change + bytes((kind,))
    block = typed + mask(crc32c(typed)).to_bytes(4, "little")
    rest = encode_table([])
    empty = rest[:13]
    handle = encode_varint(0) + encode_varint(len(change))
    entry = encode_varint(0) + encode_varint(3) + encode_varint(len(handle)) + b"zzz" + handle
    index = entry + (0).to_bytes(4, "little") + (1).to_bytes(4, "little") + b"\x00"
    index += mask(crc32c(index)).to_bytes(4, "little")
    handles = [len(block), 8, len(block) + len(empty), len(index) - 5]
    footer = b"".join(map(encode_varint, handles)).ljust(40, b"\x00") + rest[-8:]
    return block + empty + index + footer


def test_a_compressed_block_is_named() -> None:
    with pytest.raises(CorruptCheckpoint, match="snappy"):
        list(decode_table(with_first_block(bytes(8), kind=1), "t"))


def test_a_block_of_an_unknown_type_is_not_read() -> None:
    with pytest.raises(CorruptCheckpoint, match="unknown type 7"):
        list(decode_table(with_first_block(bytes(8), kind=7), "t"))


def test_shared_prefixes_cannot_fill_the_memory() -> None:
    entries = b"".join(encode_varint(shared) + b"\x01\x00a" for shared in range(20_000))
    with pytest.raises(CorruptCheckpoint, match="keys without bound"):
        list(decode_table(with_first_block(entries + bytes(4) + b"\x01\x00\x00\x00", kind=0), "t"))


@given(st.binary(max_size=60))
def test_any_block_with_a_right_checksum_is_read_or_refused(content: bytes) -> None:
    try:
        items = list(decode_table(with_first_block(content, kind=0), "t"))
    except CorruptCheckpoint:
        return
    assert [key for key, _ in items] == sorted({key for key, _ in items})
