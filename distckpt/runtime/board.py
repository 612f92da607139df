"""How the other workers of this start of the job learn where the chief is."""

from __future__ import annotations

from typing import Protocol


class Board(Protocol):
    """A place for one short text, seen by all workers of this start of the job and by no other start."""

    def publish(self, text: str) -> None:
        """Puts it there, by the chief. What was there first may stay."""

    def lookup(self, timeout_s: float) -> str:
        """Waits up to `timeout_s` seconds for it; raises TimeoutError."""
