"""The shares of one save, as the coordinator follows them: who writes each, which are in, which were given up.

A share that is given up is split among others (`plan`). Its own writer may come with it after all: then whichever is
complete first counts, the share itself or all of its parts, and never both.
"""

from __future__ import annotations

from distckpt.model import Shard, Split
from distckpt.protocol.plan import writers_of
from distckpt.protocol.speeds import Writing

LATE_FACTOR = 2
"""So many times longer than the slowest that is in: that much more a share may take before it counts as late."""


class Shares:
    """`writers[i]` is to write share i. `shards` are those that are in, by number; `splits` is what was given up.

    Begins with one share for each of `workers` workers, at `now`.
    """

    def __init__(self, workers: int, now: float) -> None:
        self.workers = workers
        self.shards: dict[int, Shard] = {}
        self.splits: tuple[Split, ...] = ()
        self.writers = writers_of(workers, ())
        self._parts: dict[int, range] = {}
        self._awaited = set(range(workers))
        self._begun = [now] * workers
        self._took: dict[int, float] = {}
        self._slowest_s = 0.0

    def is_of(self, share: int, worker: int) -> bool:
        """There is such a share, and it is for `worker` to write."""
        return share < len(self.writers) and self.writers[share] == worker

    def is_settled(self, share: int) -> bool:
        """It is in, or was given up."""
        return share in self.shards or share in self._parts

    def hand_in(self, share: int, shard: Shard, now: float) -> None:
        self.shards[share] = shard
        self._awaited.difference_update(self._and_parts(share))
        self._took[share] = now - self._begun[share]
        self._slowest_s = max(self._slowest_s, self._took[share])

    def split(self, share: int, writers: tuple[int, ...], now: float) -> None:
        first = len(self.writers)
        self.splits = (*self.splits, Split(share, writers))
        self.writers = writers_of(self.workers, self.splits)
        self._parts[share] = parts = range(first, len(self.writers))
        if share in self._awaited:
            self._awaited.remove(share)
            self._awaited.update(parts)
        self._begun += [now] * len(writers)

    @property
    def is_complete(self) -> bool:
        """Nothing is awaited."""
        return not self._awaited

    @property
    def awaited(self) -> list[int]:
        """The numbers of the shares that the save still needs, in order."""
        return sorted(self._awaited)

    def _and_parts(self, share: int) -> list[int]:
        below = (each for part in self._parts.get(share, ()) for each in self._and_parts(part))
        return [share, *below]

    def awaited_of(self, worker: int) -> list[int]:
        return [share for share in self.awaited if self.writers[share] == worker]

    def chosen(self) -> dict[int, Shard]:
        """The shards of a complete save, by share number: every piece once."""
        return {share: self.shards[share] for root in range(self.workers) for share in self._chosen(root)}

    def _chosen(self, share: int) -> list[int]:
        if share in self.shards:
            return [share]
        return [each for part in self._parts[share] for each in self._chosen(part)]

    def writings(self, now: float) -> list[Writing]:
        """How each worker came on with its first share. Of one that was given up and is not in nothing is known but
        that it took longer than until `now`. Nothing is said of a save in which something was linked: who found more
        that had not changed wrote less, and is not faster.
        """
        if any(file.linked for shard in self.shards.values() for file in shard.data_files):
            return []
        return [
            Writing(share, self._written_bytes(share), self._took.get(share, now - self._begun[share]))
            for share in range(self.workers)
        ]

    def _written_bytes(self, share: int) -> int:
        numbers = [share] if share in self.shards else self._and_parts(share)
        return sum(self.shards[each].written_bytes for each in numbers if each in self.shards)

    def late_at(self, share: int, straggler_s: float) -> float:
        """From when on `share` counts as late."""
        return self._begun[share] + max(straggler_s, LATE_FACTOR * self._slowest_s)
