"""Where the journal's files are, and which slots may never be deleted (docs/decisions/0002-journal-compaction.md)."""

from __future__ import annotations

from collections.abc import Iterable

JOURNAL = ".distckpt/journal"
INTERVAL = 256
"""Slots between two snapshots, and between two milestones. Part of the format: all writers must agree on it."""

_SNAPSHOT = "snapshot-"
_SUFFIX = ".json"
_DIGITS = 16


def slot_key(slot: int) -> str:
    return f"{JOURNAL}/{slot:0{_DIGITS}d}{_SUFFIX}"


def snapshot_key(slot: int) -> str:
    """The snapshot of the state after `slot`."""
    return f"{JOURNAL}/{_SNAPSHOT}{slot:0{_DIGITS}d}{_SUFFIX}"


def slots_among(keys: Iterable[str]) -> list[int]:
    """The numbers of the slots among `keys`, in the order of `keys`; whatever else lies there is left out."""
    return [number for key in keys if (number := _number(key, "")) is not None]


def snapshots_among(keys: Iterable[str]) -> list[int]:
    return [number for key in keys if (number := _number(key, _SNAPSHOT)) is not None]


def milestone_of(slot: int) -> int:
    """The first slot from `slot` on that is a milestone: one that is never deleted, whatever it holds."""
    return -(-slot // INTERVAL) * INTERVAL


def is_milestone(slot: int) -> bool:
    return slot % INTERVAL == 0


def _number(key: str, prefix: str) -> int | None:
    digits = key.removeprefix(f"{JOURNAL}/{prefix}").removesuffix(_SUFFIX)
    return int(digits) if len(digits) == _DIGITS and digits.isascii() and digits.isdigit() else None
