"""A staged file, from the first byte to its handle, or to nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from distckpt.storage.interface import StagedFile

Written = TypeVar("Written")


def sealed(file: StagedFile, write: Callable[[StagedFile], Written]) -> tuple[str, Written]:
    """The handle of `file` with what `write` put into it, and what that returned. If either fails, nothing is left."""
    try:
        written = write(file)
        return file.seal(), written
    except BaseException:
        file.abandon()
        raise
