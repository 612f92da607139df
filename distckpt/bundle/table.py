"""The sorted table that is a `.index` file, as TensorFlow writes it, byte for byte (LevelDB's format; tsl/lib/io).

Data blocks, an empty metaindex block, an index block of the others' handles, a footer. A block is entries, each with
the prefix that it shares with the one before left out, then the offsets of the entries that share nothing (*restarts*);
after the block one byte for its type (0: not compressed) and a masked CRC32C over both.
"""

from __future__ import annotations

from collections.abc import Iterable

from distckpt.bundle.checksum import crc32c, mask
from distckpt.bundle.varint import encode_varint

BLOCK_BYTES = 262_144
RESTART_INTERVAL = 16
TRAILER_BYTES = 5
FOOTER_BYTES = 48
HANDLES_BYTES = 40
MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
PLAIN, SNAPPY = 0, 1


class _Block:
    def __init__(self, restart_interval: int) -> None:
        self._interval = restart_interval
        self._content = bytearray()
        self._restarts = [0]
        self._count = 0
        self.last_key = b""

    def add(self, key: bytes, value: bytes) -> None:
        assert self.empty or key > self.last_key, f"keys out of order: {key!r} after {self.last_key!r}"
        shared = 0
        if self._count % self._interval:
            shared = _shared_prefix(self.last_key, key)
        elif self._count:
            self._restarts.append(len(self._content))
        self._content += b"".join(
            (encode_varint(shared), encode_varint(len(key) - shared), encode_varint(len(value)), key[shared:], value)
        )
        self._count += 1
        self.last_key = key

    @property
    def size_bytes(self) -> int:
        return len(self._content) + 4 * len(self._restarts) + 4

    @property
    def empty(self) -> bool:
        return self._count == 0

    def content(self) -> bytes:
        restarts = [*self._restarts, len(self._restarts)]
        return bytes(self._content) + b"".join(number.to_bytes(4, "little") for number in restarts)


class _Writer:
    def __init__(self) -> None:
        self._file = bytearray()
        self._index = _Block(restart_interval=1)
        self._block = _Block(RESTART_INTERVAL)
        self._handle = b""
        self._last_key = b""

    def add(self, key: bytes, value: bytes) -> None:
        if self._handle:  # only now is it known how short a key can part the block before from this one
            self._index.add(_separator(self._last_key, key), self._handle)
            self._handle = b""
        self._block.add(key, value)
        self._last_key = key
        if self._block.size_bytes >= BLOCK_BYTES:
            self._end_block()

    def _end_block(self) -> None:
        self._handle = self._append(self._block)
        self._block = _Block(RESTART_INTERVAL)

    def _append(self, block: _Block) -> bytes:
        """Appends the block with its trailer; the handle that finds it."""
        content = block.content()
        typed = content + bytes((PLAIN,))
        handle = encode_varint(len(self._file)) + encode_varint(len(content))
        self._file += typed + mask(crc32c(typed)).to_bytes(4, "little")
        return handle

    def finish(self) -> bytes:
        if not self._block.empty:
            self._end_block()
        metaindex = self._append(_Block(RESTART_INTERVAL))
        if self._handle:
            self._index.add(_successor(self._last_key), self._handle)
        self._file += (metaindex + self._append(self._index)).ljust(HANDLES_BYTES, b"\x00") + MAGIC
        return bytes(self._file)


def encode_table(items: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The file that holds `items`. The caller sorts: keys strictly ascending, bytewise."""
    writer = _Writer()
    for key, value in items:
        writer.add(key, value)
    return writer.finish()


def _shared_prefix(a: bytes, b: bytes) -> int:
    length = min(len(a), len(b))
    difference = int.from_bytes(a[:length], "big") ^ int.from_bytes(b[:length], "big")
    return length - (difference.bit_length() + 7) // 8


def _separator(last: bytes, following: bytes) -> bytes:
    """A short key >= `last` and < `following`."""
    at = _shared_prefix(last, following)
    if at < min(len(last), len(following)) and last[at] + 1 < following[at]:
        return last[:at] + bytes((last[at] + 1,))
    return last


def _successor(last: bytes) -> bytes:
    """A short key >= `last`."""
    at = len(last) - len(last.lstrip(b"\xff"))
    return last[:at] + bytes((last[at] + 1,)) if at < len(last) else last
