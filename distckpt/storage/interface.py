"""What distckpt asks of a storage, and no more: put-if-absent, put, read, list, delete, and stage / publish.

Keys are `/`-separated names below the job's directory (`ckpt-100.index`, `.distckpt/journal/0000000000000042.json`).
A key that is absolute, empty, or has an empty, `.` or `..` component is refused with InvalidName. What returned without
an error is durable. Errors are `StorageError` (`ObjectMissing`, `StorageNoSpace`); `put_if_absent` raises
`OutcomeUnknown` where it cannot tell. All methods may be called from any thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Bytes = bytes | NDArray[np.uint8]
"""What can be written: bytes, or a C-contiguous one-dimensional array of uint8 (which costs no copy)."""


def view_of(data: Bytes) -> memoryview:
    """`data` without a copy."""
    return memoryview(data) if isinstance(data, bytes) else data.data


def fill(buffers: Sequence[NDArray[np.uint8]], data: bytes) -> int:
    """Copies `data` into `buffers`, in turn: for a storage that has its files in memory."""
    left = np.frombuffer(data, np.uint8)
    for buffer in buffers:
        buffer[: left.size] = left[: buffer.size]
        left = left[buffer.size :]
    return len(data)


class StagedFile(Protocol):
    """A file being written, visible to nobody. `write_at` may be called from several threads at once."""

    def write_at(self, offset: int, data: Bytes) -> None:
        """Writes all of `data` at `offset`; a short write is continued, never reported as done.

        When it returns, the caller may put something else into the memory of `data`.
        """

    def seal(self) -> str:
        """Makes the content durable and returns the handle that `publish` and `discard` take.

        An fsync that failed is never tried again on the same file: it raises, and the file must be staged anew. It
        raises also where another process has discarded the file meanwhile.
        """

    def abandon(self) -> None:
        """Removes what was written. Allowed at any time, also after a failure and twice."""


class Readable(Protocol):
    """What can be read of a directory."""

    def read(self, key: str) -> bytes:
        """The whole content. Raises ObjectMissing."""

    def read_at(self, key: str, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`, fewer at the end. Raises ObjectMissing."""

    def read_into(self, key: str, offset: int, buffers: Sequence[NDArray[np.uint8]]) -> int:
        """Fills `buffers` (one-dimensional, C-contiguous), in turn, from `offset`, and returns how many bytes there
        were: fewer at the end. Raises ObjectMissing.
        """

    def size(self, key: str) -> int:
        """The size in bytes. Raises ObjectMissing."""


class Storage(Readable, Protocol):
    """One directory. See the module for keys, durability and errors."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Creates `key` with `data`, atomically and durably. False: it existed (whatever its content)."""

    def put(self, key: str, data: bytes, *, private: bool = False) -> None:
        """Creates or replaces `key`, atomically and durably. `private`: only the owner may read it (mode 0600)."""

    def keys(self, prefix: str) -> list[str]:
        """All keys below the folder `prefix` ("" for the top), recursively, sorted; temporary files left out."""

    def delete(self, key: str) -> None:
        """Removes `key`, durably; no error if it is absent. A folder left empty below `.distckpt/` goes too."""

    def together(self) -> AbstractContextManager[None]:
        """Inside, what this thread publishes, deletes and discards is durable only at the end, all of it: one fsync for
        a folder, not one for each name. Of changes that need no order: after a power loss any of them may be lost.
        What is put is durable at once. Not to be nested.
        """

    def stage(self, generation: int, name: str) -> StagedFile:
        """A new staged file. `name` is unique within the generation (say which worker and round it is of)."""

    def stage_link(self, handle: str, generation: int, name: str) -> str:
        """Another handle, durable, of the sealed file `handle`: `GENERATION/NAME`, with `name` as for `stage`.

        Discarding the one does not touch the other. A storage may refuse. After a StorageError (ObjectMissing where the
        file is gone) `GENERATION/NAME` is to be discarded: it may be there.
        """

    def publish(self, handle: str, key: str) -> None:
        """Gives a sealed file the visible name `key` as well, durably, replacing what had that name. May be repeated.

        The file keeps its own name, the handle, until it is discarded. Nobody else ever uses that one, so whatever a
        writer of a sealed generation still does to the visible name, publishing again heals it. Raises ObjectMissing
        where the handle is gone.
        """

    def is_published(self, handle: str, key: str) -> bool:
        """Whether `key` names this very file. False too where either name is gone."""

    def under_own_names(self, handles: Mapping[str, str]) -> Readable:
        """This storage, where a key of `handles` stands for the sealed file of that handle, whatever has its name."""

    def staged_size(self, handle: str) -> int:
        """The size in bytes; of a file that is not sealed, so far. Raises ObjectMissing."""

    def discard(self, handle: str, key: str = "") -> None:
        """Removes a sealed file's own name, and so the file if it was not published; no error if it is gone.

        With `key` also that name, if it is this very file's. Whoever is publishing the file meanwhile, however slowly,
        does not leave it there.
        """

    def staged(self) -> list[str]:
        """The handles of all files staged and not discarded, sorted; each begins with its generation and a slash."""
