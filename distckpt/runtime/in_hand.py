"""What this process has undone for the job, told to the launcher that started it: it lets that be finished.

In hand is a save from its announcement to its outcome, whoever commits it. The launcher makes a folder for each worker
and names it in DISTCKPT_IN_HAND; each agent that has work in hand has a file there, which says what it is. Where nobody
made one nothing is written. A launcher looks only at workers that live: what a dead one left says nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

log = logging.getLogger("distckpt")

VARIABLE = "DISTCKPT_IN_HAND"


class InHand:
    """One agent's side. Never raises: what cannot be written is told of in the log."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        folder = environ.get(VARIABLE)
        self._file = Path(folder) / uuid4().hex if folder else None

    def begin(self, what: str) -> None:
        """From now on `what` ("the save of step 3") is undone."""
        if self._file is not None:
            try:
                self._file.write_text(what)
            except OSError as error:
                log.warning("the launcher is not told of %s: %s", what, error)

    def end(self) -> None:
        """Nothing is undone any more. May be called twice."""
        if self._file is not None:
            with suppress(OSError):
                self._file.unlink(missing_ok=True)


def in_hand(folder: Path) -> list[str]:
    """The launcher's side: what the agents of the worker with that folder have in hand."""
    found = []
    for file in sorted(folder.iterdir()):
        with suppress(FileNotFoundError):  # it has just ended
            found.append(file.read_text())
    return found
