"""Holding a lease: the reader's side of `leases`."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from types import TracebackType
from typing import Self
from uuid import uuid4

from distckpt.errors import ObjectMissing, StorageError
from distckpt.journal.leases import LEASES, RENEW_S, REWRITE_S, Lease, encode_lease, identity
from distckpt.journal.process import this_process
from distckpt.model import Checkpoint
from distckpt.storage.interface import Storage

log = logging.getLogger("distckpt.leases")


class Holder:
    """A lease, from `__enter__` to `__exit__`; a thread renews it every RENEW_S.

    It begins by holding every checkpoint. So whoever enters first, and then looks into the journal, holds all that it
    finds live there, and may `narrow` the lease to what it wants. Entering and narrowing raise StorageError.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._key = f"{LEASES}/{uuid4().hex}.json"
        self._lease = Lease(this_process(), counter=0, timestamp=0.0, names=None)
        self._written = 0.0  # when, by time.monotonic
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._renewing = threading.Thread(target=self._renew, name="distckpt-lease", daemon=True)

    def __enter__(self) -> Self:
        self._put(self._lease)
        self._renewing.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._renewing.join()
        try:
            self._storage.delete(self._key)
        except StorageError as failure:
            log.warning("the lease %s could not be deleted, and ends by itself: %s", self._key, failure)

    def narrow(self, checkpoint: Checkpoint) -> None:
        """From now on holds `checkpoint` alone."""
        with self._lock:
            self._put(replace(self._lease, names=(checkpoint.name,), done=()))

    def let_go(self, done: Iterable[Checkpoint]) -> None:
        """From now on, or a little later (see REWRITE_S), holds all but `done`."""
        with self._lock:
            self._lease = replace(self._lease, done=tuple(map(identity, done)))
            if time.monotonic() - self._written >= REWRITE_S:
                self._put(self._lease)

    def _put(self, lease: Lease) -> None:
        self._lease = replace(lease, counter=lease.counter + 1, timestamp=time.time())
        self._storage.put(self._key, encode_lease(self._lease))
        self._written = time.monotonic()

    def _renew(self) -> None:
        while not self._over.wait(RENEW_S):
            try:
                if not self._is_there():
                    log.error(
                        "the lease %s was taken for dead: this process did not renew it in time (was it stopped, or "
                        "the storage out of reach?). What it reads may be deleted under it",
                        self._key,
                    )
                    return
                with self._lock:
                    if time.monotonic() - self._written >= REWRITE_S:
                        self._put(self._lease)
            except StorageError as error:
                log.warning("the lease %s could not be renewed, and is tried again: %s", self._key, error)

    def _is_there(self) -> bool:
        try:
            self._storage.size(self._key)
        except ObjectMissing:
            return False
        return True
