"""When `step_end` saves. All workers hold the same policy and see the same steps, so all save at the same ones."""

from __future__ import annotations

from dataclasses import dataclass

from distckpt.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class EverySteps:
    """Save after each step that `n` divides. Raises ConfigurationError unless `n` is a positive integer."""

    n: int

    def __post_init__(self) -> None:
        if isinstance(self.n, bool) or not isinstance(self.n, int) or self.n <= 0:
            raise ConfigurationError(f"EverySteps(n) takes a positive integer, got {self.n!r}")

    def due(self, step: int) -> bool:
        return step % self.n == 0
