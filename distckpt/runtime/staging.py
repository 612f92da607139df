"""Staged files that are not wanted any more."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from distckpt.errors import StorageError
from distckpt.storage.interface import Storage

log = logging.getLogger("distckpt.runtime")


def discard_all(storage: Storage, handles: Iterable[str]) -> None:
    """Discards the staged files of an aborted round; what cannot be removed now is left to the next generation."""
    for handle in handles:
        try:
            storage.discard(handle)
        except StorageError as error:
            log.warning("a staged file stays behind until the next start of the job: %s", error)
