"""A tensor's bytes, read from the front in chunks, so that a large one needs little memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from distckpt.bundle.varint import decode_varint

_VARINT_BYTES_MAX = 10


class ByteStream:
    """Reads `size` bytes with `fetch(offset, length)`, at most `chunk_bytes` (some thousand or more) at a time.

    Methods raise ValueError where the bytes end too early: by `size`, or because `fetch` returned fewer.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], size: int, chunk_bytes: int) -> None:
        self._fetch = fetch
        self._size = size
        self._chunk_bytes = chunk_bytes
        self._buffer = b""
        self._position = 0  # in the buffer
        self._fetched = 0

    @classmethod
    def of(cls, data: bytes) -> ByteStream:
        """The bytes that are at hand already."""
        return cls(lambda offset, length: data[offset : offset + length], len(data), len(data))

    @property
    def remaining(self) -> int:
        return self._size - self._fetched + len(self._buffer) - self._position

    def varint(self) -> int:
        if len(self._buffer) - self._position < _VARINT_BYTES_MAX:
            self._fill()
        value, self._position = decode_varint(self._buffer, self._position, len(self._buffer))
        return value

    def take(self, length: int) -> bytes:
        return b"".join(self.chunks(length))

    def chunks(self, length: int) -> Iterator[bytes]:
        """The next `length` bytes, in pieces."""
        if length > self.remaining:
            raise ValueError(f"{length} bytes should follow, and there are {self.remaining}")
        while length:
            if self._position == len(self._buffer):
                self._fill()
            piece = self._buffer[self._position : self._position + length]
            self._position += len(piece)
            length -= len(piece)
            yield piece

    def _fill(self) -> None:
        length = min(self._chunk_bytes, self._size - self._fetched)
        fetched = self._fetch(self._fetched, length) if length else b""
        if len(fetched) != length:
            raise ValueError("the file ends in the middle of it")
        self._buffer = self._buffer[self._position :] + fetched
        self._position = 0
        self._fetched += length
