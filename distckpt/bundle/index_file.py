"""The bytes of an `.index` file, if they are not too many: it is read as a whole, and anyone may have made it."""

from __future__ import annotations

from distckpt.bundle.index import INDEX_BYTES_MAX
from distckpt.errors import CorruptCheckpoint
from distckpt.storage.interface import Readable


def read_index_file(storage: Readable, key: str) -> bytes:
    """The content. Raises CorruptCheckpoint where it is larger than any index, before it is read; ObjectMissing."""
    size_bytes = storage.size(key)
    if size_bytes > INDEX_BYTES_MAX:
        raise CorruptCheckpoint(key, f"it has {size_bytes} bytes; an index has at most {INDEX_BYTES_MAX}")
    return storage.read(key)
