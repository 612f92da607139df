"""How the other workers of this start of the job learn where the chief is."""

from __future__ import annotations

from typing import Protocol


class Board(Protocol):
    """A small key-value store that all workers of this start of the job share, and no other start does.

    TensorFlow's coordination service is one (the module `tensors.cluster`): it belongs to one start of the cluster.
    """

    def publish_key(self, key: str, value: str) -> None:
        """Sets `key`, once."""

    def lookup_key(self, key: str, timeout_s: float) -> str:
        """Waits up to `timeout_s` seconds for `key` to be set; raises TimeoutError."""
