"""Reads a sorted table (see `table`), trusting nothing: every byte is under a checksum or has one possible value.

Whatever the bytes, the outcome is the items or CorruptCheckpoint, in time and memory proportional to the file: blocks
follow one another without gap or overlap, as TensorFlow writes them, keys ascend, and shared prefixes can blow keys up
only so far.
"""

from __future__ import annotations

from collections.abc import Iterator

from distckpt.bundle.checksum import crc32c, mask
from distckpt.bundle.table import FOOTER_BYTES, HANDLES_BYTES, MAGIC, PLAIN, SNAPPY, TRAILER_BYTES
from distckpt.bundle.varint import decode_varint
from distckpt.errors import CorruptCheckpoint

_KEY_EXPANSION_MAX = 64
"""The keys of a block, written out, take at most so many times its size: restarts every 16 entries keep it below 16."""
_VARINT_MORE = 128
"""The bit that says that another byte of a number follows."""

Item = tuple[bytes, bytes]
Handle = tuple[int, int]
"""Where a block is: offset and size, without its trailer."""


def decode_table(data: bytes, path: str) -> Iterator[Item]:
    """The items, keys strictly ascending. Raises CorruptCheckpoint, naming `path`, at the latest at the end."""
    try:
        yield from _items(data)
    except ValueError as error:
        raise CorruptCheckpoint(path, str(error)) from error


def _items(data: bytes) -> Iterator[Item]:
    metaindex, index = _footer(data)
    previous: bytes | None = None
    position = 0
    for separator, value in _entries(data, index):
        handle, _ = _handle(value, 0, len(value))
        if handle[0] != position:
            raise ValueError(f"the data block at {handle[0]} is not where the one before it ends")
        for item in _entries(data, handle):
            if previous is not None and item[0] <= previous:
                raise ValueError(f"the keys of the block at {position} are not in order")
            previous = item[0]
            yield item
        if previous is None or previous > separator:
            raise ValueError(f"the block at {position} has a key that is not in its range")
        position = sum(handle) + TRAILER_BYTES
    if metaindex[0] != position or list(_entries(data, metaindex)):
        raise ValueError("the metaindex block is not empty, or not where the data blocks end")


def _footer(data: bytes) -> tuple[Handle, Handle]:
    """The handles of metaindex and index block, which are the last two and end where the footer begins."""
    if len(data) < FOOTER_BYTES or not data.endswith(MAGIC):
        raise ValueError("it does not end as an index must: it is cut short, or something else")
    footer = data[-FOOTER_BYTES:]
    metaindex, position = _handle(footer, 0, HANDLES_BYTES)
    index, position = _handle(footer, position, HANDLES_BYTES)
    if any(footer[position:HANDLES_BYTES]):
        raise ValueError("the footer's padding is not zero")
    if sum(metaindex) + TRAILER_BYTES != index[0] or sum(index) + TRAILER_BYTES != len(data) - FOOTER_BYTES:
        raise ValueError("the last two blocks are not where the footer says")
    return metaindex, index


def _handle(data: bytes, position: int, end: int) -> tuple[Handle, int]:
    offset, position = decode_varint(data, position, end)
    size, position = decode_varint(data, position, end)
    return (offset, size), position


def _block(data: bytes, handle: Handle) -> bytes:
    """A block without its trailer, its checksum verified."""
    offset, size = handle
    end = offset + size
    if end + TRAILER_BYTES > len(data) - FOOTER_BYTES:
        raise ValueError(f"the block at {offset} reaches out of the file")
    typed = data[offset : end + 1]
    if mask(crc32c(typed)) != int.from_bytes(data[end + 1 : end + TRAILER_BYTES], "little"):
        raise ValueError(f"the checksum of the block at {offset} does not match")
    if typed[-1] == SNAPPY:
        raise ValueError(f"the block at {offset} is compressed with snappy, which distckpt does not read")
    if typed[-1] != PLAIN:
        raise ValueError(f"the block at {offset} is of the unknown type {typed[-1]}")
    return typed[:-1]


def _entries(data: bytes, handle: Handle) -> Iterator[Item]:
    block, offset = _block(data, handle), handle[0]
    end = _end_of_entries(block, offset)
    position, key, allowance = 0, b"", len(block) * _KEY_EXPANSION_MAX
    while position < end:
        shared, unshared, length = block[position : position + 3]  # there are three bytes: at least a count follows
        if shared | unshared | length < _VARINT_MORE:  # nearly always, and much faster
            position += 3
        else:
            shared, position = decode_varint(block, position, end)
            unshared, position = decode_varint(block, position, end)
            length, position = decode_varint(block, position, end)
        value_at = position + unshared
        allowance -= shared + unshared
        if shared > len(key) or value_at + length > end or allowance < 0:
            raise ValueError(f"the block at {offset} has an entry that reaches out of it, or keys without bound")
        key = key[:shared] + block[position:value_at]
        position = value_at + length
        yield key, block[value_at:position]


def _end_of_entries(block: bytes, offset: int) -> int:
    """Where the restart offsets begin: they serve a search, which is not done here."""
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (restarts + 1)
    if end < 0:
        raise ValueError(f"the block at {offset} has an impossible number of restarts")
    return end
