"""What the workers write, in files: FOLDER/start-0001/worker-0.log, a folder for each start, none written twice."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import IO

_START = re.compile(r"start-([0-9]+)")


class LogFolder:
    """Each line goes to the file of its worker at once, stdout and stderr in the order in which they came.

    Making the folder raises OSError. After that a file that cannot be written (a full disk) is told of, once, and the
    job goes on without it.
    """

    def __init__(self, folder: str, say: Callable[[str], None]) -> None:
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._say = say
        self._files: list[IO[bytes]] = []

    def begin(self, workers: int) -> None:
        """A new start: the next number that is free, also after another run of the same job."""
        self.close()
        try:
            taken = [int(match[1]) for path in self._folder.iterdir() if (match := _START.fullmatch(path.name))]
            folder = self._folder / f"start-{max(taken, default=0) + 1:04}"
            folder.mkdir()
            self._files = [(folder / f"worker-{each}.log").open("xb", buffering=0) for each in range(workers)]
        except OSError as error:
            self._give_up(error)

    def line(self, worker: int, text: bytes) -> None:
        if worker >= len(self._files):
            return
        try:
            self._files[worker].write(text + b"\n")
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        for file in self._files:
            file.close()
        self._files = []

    def _give_up(self, error: OSError) -> None:
        self.close()
        self._say(f"the workers' output is not logged until the next start: {error}")
