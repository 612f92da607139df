"""When `step_end` saves. All workers hold the same policy and see the same steps, so all save at the same ones.

Steps are counted by each worker for itself. Time is not the same everywhere: the chief looks at its clock, and then all
agree on a step (see protocol/proposal.py).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from distckpt.errors import ConfigurationError
from distckpt.protocol.retention import AnyOf


@dataclass(frozen=True, slots=True)
class EverySteps:
    """Save after each step that `n` divides. Raises ConfigurationError unless `n` is a positive integer."""

    n: int

    def __post_init__(self) -> None:
        if isinstance(self.n, bool) or not isinstance(self.n, int) or self.n <= 0:
            raise ConfigurationError(f"EverySteps(n) takes a positive integer, got {self.n!r}")


@dataclass(frozen=True, slots=True)
class EverySeconds:
    """Save when `seconds` have gone by since the last save began, whatever asked for that one.

    Raises ConfigurationError unless `seconds` is a positive, finite number.
    """

    seconds: float

    def __post_init__(self) -> None:
        number = isinstance(self.seconds, int | float) and not isinstance(self.seconds, bool)
        if not number or not 0 < self.seconds < math.inf:
            raise ConfigurationError(f"EverySeconds(seconds) takes a positive number, got {self.seconds!r}")


SavePolicy = EverySteps | EverySeconds | AnyOf[Any]


class Schedule:
    """A save policy at work. None: never. Raises ConfigurationError for what is no save policy."""

    def __init__(self, policy: SavePolicy | None, clock: Callable[[], float] = time.monotonic) -> None:
        policies = [] if policy is None else list(_each(policy))
        self._steps = [each.n for each in policies if isinstance(each, EverySteps)]
        self.seconds = min((each.seconds for each in policies if isinstance(each, EverySeconds)), default=math.inf)
        self._clock = clock
        self._since = clock()

    def due(self, step: int) -> bool:
        """Whether all workers save after `step`, without a word."""
        for n in self._steps:  # noqa: SIM110 - any() makes a generator, which takes longer than all else here
            if step % n == 0:
                return True
        return False

    def time_is_up(self) -> bool:
        """Whether `seconds` have gone by since `begin` was called last."""
        return self.seconds < math.inf and self._clock() - self._since >= self.seconds

    def begin(self) -> None:
        """A save begins, or is asked for."""
        self._since = self._clock()


def _each(policy: SavePolicy) -> Iterator[EverySteps | EverySeconds]:
    if isinstance(policy, AnyOf):
        for inner in policy.policies:
            yield from _each(inner)
    elif isinstance(policy, EverySteps | EverySeconds):
        yield policy
    else:
        raise ConfigurationError(
            f"{policy!r} says what to keep, or nothing; save_policy takes EverySteps, EverySeconds or AnyOf of them"
        )
