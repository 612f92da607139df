"""How the job in a directory stands, for those outside of it: live from its coordinator, else from the journal.

Reads only. Whoever can read the directory's rendezvous file can call the coordinator; all others, and everybody once
the job is over, get what the journal says, with the reason why it is no more.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from distckpt.catalog import Catalog
from distckpt.errors import ConfigurationError, CoordinatorUnreachable, CorruptData, Refused, StorageError
from distckpt.journal.reading import load
from distckpt.journal.state import Quarantined
from distckpt.observe.picture import Picture, TroubleView, decode
from distckpt.observe.retained import kept_checkpoints, leases_in
from distckpt.rpc.credentials import Security
from distckpt.rpc.operator import Operator, operator_of
from distckpt.storage.posix import PosixStorage


class Looker:
    """Looks at one directory as often as asked; the connection to its coordinator is kept from one look to the next.

    `credentials` are those of a job that brought its own. The constructor raises ConfigurationError where there is no
    such directory.
    """

    def __init__(self, directory: str, credentials: Security | None = None) -> None:
        self._credentials = credentials
        self._catalog = Catalog(directory)
        self._directory = directory
        self._connection = ExitStack()
        self._operator: Operator | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._connection.close()

    def look(self) -> Picture:
        """How the job stands now, whichever start of it runs. Raises CorruptJournal, StorageError."""
        try:
            if self._operator is None:
                self._operator = self._connection.enter_context(operator_of(self._directory, self._credentials))
            return decode(self._operator.picture(), self._directory)
        except (ConfigurationError, CoordinatorUnreachable, Refused, CorruptData, StorageError) as error:
            self._connection.close()
            self._operator = None
            return self._journalled(str(error))

    def _journalled(self, note: str) -> Picture:
        """What the journal says. `note`: why not more."""
        storage = PosixStorage(self._directory)
        state = load(storage).state
        begun = state.begun
        return Picture(
            source="journal",
            directory=str(storage.directory),
            at=time.time(),
            note=note,
            job="" if begun is None else begun.job,
            generation=state.generation,
            world_size=0 if begun is None else max(1, len(begun.world)),
            begun_at=None if begun is None else begun.timestamp,
            troubles=tuple(_trouble(each) for each in state.quarantined),
            checkpoints=kept_checkpoints(self._catalog.checkpoints, None, leases_in(storage)),
        )


def _trouble(quarantined: Quarantined) -> TroubleView:
    """Of a checkpoint that was set aside; when, the journal does not say: after its commit."""
    checkpoint = quarantined.checkpoint
    return TroubleView(checkpoint.timestamp, "CorruptCheckpoint", f"{checkpoint.name}: {quarantined.reason}")
