"""`checkpoints_iterator`: for evaluators, each new checkpoint while a job writes them, held as long as it is used.

It takes a lease first, on everything, and looks then: what it finds live can no more be removed, whatever the chief was
about to do (docs/decisions/0006-leases.md). So it never has to try again, however fast the job saves.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from distckpt.bundle.names import index_file
from distckpt.bundle.statefile import parse_state
from distckpt.commit.publication import is_removed, is_visible
from distckpt.commit.statefile import read_state
from distckpt.errors import CorruptData, ObjectMissing
from distckpt.journal.following import Follower
from distckpt.journal.holding import Holder
from distckpt.journal.leases import identity
from distckpt.model import Checkpoint
from distckpt.storage.posix import PosixStorage

log = logging.getLogger("distckpt")

POLL_S = 0.1
"""So often the journal's next slot is looked at: one name, whatever the directory holds."""


def checkpoints_iterator(
    checkpoint_dir: str | os.PathLike[str],
    min_interval_secs: float = 0,
    timeout: float | None = None,
    timeout_fn: Callable[[], object] | None = None,
    *,
    every: bool = False,
) -> Iterator[str]:
    """Yields the path of the newest checkpoint whenever there is a new one, as `tf.train.checkpoints_iterator` does.

    While the body of the loop runs, retention leaves its checkpoint alone: a lease is held, a small file below
    `checkpoint_dir`, which this process must be able to write. If the process dies, the lease ends by itself.

    - `min_interval_secs`: at least so many seconds from one checkpoint to the next.
    - `timeout`: so many seconds a new checkpoint is waited for; None: without end. After it, `timeout_fn` is asked.
    - `timeout_fn`: called without arguments after a timeout and, as in TensorFlow, after each body; the iterator ends
      when it returns something true. Without it, a timeout ends the iterator.
    - `every`: skips none: all that exist now and all that are committed from now on, in the order of their commits.
      Those that still wait for their turn are held, too: a slow body makes the directory grow.

    In a directory that only plain TensorFlow has saved into, its state file is followed, and nothing is held.
    Raises StorageError, CorruptJournal.
    """
    source = _Every(checkpoint_dir) if every else _Newest(checkpoint_dir)
    try:
        while True:
            name = _wait(source, timeout)
            if name is not None:
                start = time.monotonic()
                yield os.path.join(checkpoint_dir, name)  # noqa: PTH118 - as TensorFlow spells paths, also "./ckpt-1"
                source.done()
                time.sleep(max(0.0, start + min_interval_secs - time.monotonic()))
            elif timeout_fn is None:
                return
            if timeout_fn is not None and timeout_fn():
                return
    finally:
        source.close()


def _wait(source: _Newest | _Every, timeout: float | None) -> str | None:
    """The next checkpoint, None if there is none for `timeout` seconds."""
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    while (name := source.take()) is None:
        left = deadline - time.monotonic()
        if left <= 0:
            return None
        time.sleep(min(POLL_S, left))
    return name


class _Newest:
    """Each time the newest one, held from `take` to `done`."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = directory
        self._storage = PosixStorage(directory)
        self._journal = Follower(self._storage)
        self._last: str | None = None
        self._held = ExitStack()

    def take(self) -> str | None:
        """The newest one's name; None if that was taken before."""
        if not self._journal.look().slot:
            return self._taken_of_tensorflows()
        return self._taken() if self._newest() else None

    def done(self) -> None:
        self._held.close()

    def close(self) -> None:
        self._held.close()

    def _taken(self) -> str | None:
        with ExitStack() as stack:
            holder = stack.enter_context(Holder(self._storage))
            newest = self._newest()  # another than before, perhaps: now it is held
            if newest is None or not is_visible(self._storage, newest):
                return None
            holder.narrow(newest)
            self._last = newest.name
            self._held = stack.pop_all()
        return self._last

    def _newest(self) -> Checkpoint | None:
        """As the journal says; None if that was taken before. Its files may not have their names yet."""
        live = self._journal.look().live
        return live[-1] if live and live[-1].name != self._last else None

    def _taken_of_tensorflows(self) -> str | None:
        latest = _tensorflows(self._directory)[-1:]
        if not latest or latest[0] == self._last or not _is_there(self._directory, latest[0]):
            return None
        self._last = latest[0]
        return self._last


class _Every:
    """One after the other. All are held from the first `take` to `close`, but for those that are done."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = directory
        self._storage = PosixStorage(directory)
        self._journal = Follower(self._storage)
        self._holder = Holder(self._storage)
        self._held = ExitStack()
        self._entered = False
        self._seen: set[str] = set()
        self._queue: deque[Checkpoint] = deque()
        self._current: Checkpoint | None = None
        self._done: list[Checkpoint] = []

    def take(self) -> str | None:
        """The next one's name; None if there is none yet."""
        if not self._holding():
            return None
        state = self._journal.look()
        if not state.slot:
            return self._taken_of_tensorflows()
        self._queue.extend(each for each in state.live if identity(each) not in self._seen)
        live = {identity(each) for each in state.live}
        self._seen = live
        while self._queue:
            checkpoint = self._queue[0]
            if is_visible(self._storage, checkpoint):
                self._current = self._queue.popleft()
                return checkpoint.name
            if identity(checkpoint) in live:
                return None  # its files have their names in a moment
            log.warning("%s was replaced or set aside before its turn came", checkpoint.name)
            self._let_go(self._queue.popleft(), live)
        return None

    def done(self) -> None:
        if self._current is not None:
            self._let_go(self._current, {identity(each) for each in self._journal.look().live})
            self._current = None

    def close(self) -> None:
        self._held.close()

    def _holding(self) -> bool:
        """Takes the lease as soon as there is a directory to take it in."""
        if not self._entered and self._storage.directory.is_dir():
            self._held.enter_context(self._holder)
            self._entered = True
        return self._entered

    def _let_go(self, checkpoint: Checkpoint, live: set[str]) -> None:
        """What is gone need not be named in the lease any more; what is only retired must, or it would stay."""
        self._done = [each for each in self._done if identity(each) in live or not is_removed(self._storage, each)]
        self._done.append(checkpoint)
        self._holder.let_go(self._done)

    def _taken_of_tensorflows(self) -> str | None:
        for name in _tensorflows(self._directory):
            if name not in self._seen and _is_there(self._directory, name):
                self._seen.add(name)
                return name
        return None


def _tensorflows(directory: str | os.PathLike[str]) -> list[str]:
    """What TensorFlow's state file names, the latest last; nothing where it cannot be read, as TensorFlow has it."""
    try:
        state = parse_state(read_state(PosixStorage(directory)))
    except (ObjectMissing, CorruptData):
        return []
    latest = state.model_checkpoint_path
    return [*(name for name in state.all_model_checkpoint_paths if name != latest), latest]


def _is_there(directory: str | os.PathLike[str], name: str) -> bool:
    return (Path(directory) / index_file(name)).exists()
