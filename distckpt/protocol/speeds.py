"""How fast each worker writes, as whole weights for the plan: a slow disk or a shared link gets a smaller share.

Shares must not jump about, or nothing could be linked from one save to the next. So weights come from a short table of
steps; what counts is the median of a worker's last saves, one that was slow by chance changes nothing; a worker keeps
its weight until it is off by more than `FACTOR`, seen from the others; and saves that are over at once, whose times say
more of a busy machine than of its storage, are not looked at.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import log2
from statistics import median, median_high

FACTOR = 1.5
"""A worker whose speed differs from what its weight says by less is left as it is: a save takes up to 1.25 times as
long as with the best shares (2 workers), and weights stay.
"""
SAVES = 3
"""So many measured saves, and the median of them, say how fast a worker is."""
SECONDS_MIN = 1.0
MEAN_BYTES_MIN = 1 << 20
"""A save counts if its slowest share took so long, and the mean share has so many bytes."""

_WEIGHTS = (64, 45, 32, 23, 16, 11, 8, 6, 4)
"""Each step is the square root of two slower than the one before; the slowest has 1/16 of the fastest."""


@dataclass(frozen=True, slots=True)
class Writing:
    """Worker `worker` wrote `size_bytes` in `seconds`, from the decision until the coordinator had its word."""

    worker: int
    size_bytes: int
    seconds: float


class Speeds:
    """Of `workers` workers, in one generation; at first all are as fast."""

    def __init__(self, workers: int) -> None:
        self._steps = [0] * workers
        self._seen: list[deque[float]] = [deque(maxlen=SAVES) for _ in range(workers)]

    @property
    def weights(self) -> tuple[int, ...]:
        """What all plan by; empty where all are the same."""
        if len(set(self._steps)) == 1:
            return ()
        return tuple(_WEIGHTS[step] for step in self._steps)

    def measure(self, writings: Sequence[Writing]) -> None:
        """Takes a save that is complete. Who wrote nothing in it for `SAVES` saves counts as fast again: its speed is
        not known any more.
        """
        if not writings or max(each.seconds for each in writings) < SECONDS_MIN:
            return
        if sum(each.size_bytes for each in writings) < MEAN_BYTES_MIN * len(writings):
            return
        for each in writings:
            seen = self._seen[each.worker]
            if each.size_bytes and each.seconds > 0:
                seen.append(each.size_bytes / each.seconds)
            elif seen:
                seen.popleft()
                self._steps[each.worker] = self._steps[each.worker] if seen else 0
        self._weigh()

    def _weigh(self) -> None:
        """Gives a new weight to whom the old one does not fit, seen from the worker in the middle."""
        known = {worker: median(seen) for worker, seen in enumerate(self._seen) if len(seen) == SAVES}
        if not known:
            return
        fits = {worker: speed / _WEIGHTS[self._steps[worker]] for worker, speed in known.items()}
        usual = median_high(fits.values())
        for worker, fit in fits.items():
            if not 1 / FACTOR <= fit / usual <= FACTOR:
                self._steps[worker] -= round(2 * log2(fit / usual))
        fastest = min(self._steps)
        self._steps = [min(step - fastest, len(_WEIGHTS) - 1) for step in self._steps]
