"""Plain text for people: columns and sizes. Imports nothing of distckpt."""

from __future__ import annotations

from collections.abc import Collection, Sequence

_UNITS = ("KB", "MB", "GB", "TB", "PB", "EB")
_STEP = 1000


def columns(rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> list[str]:
    """A line per row, the columns aligned; those numbered in `right` to the right, as numbers are. Not for no rows."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = (
        [
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in rows
    )
    return ["  ".join(cells).rstrip() for cells in aligned]


def size(size_bytes: int) -> str:
    """As `9.2 MB`; the units are powers of 1,000."""
    if size_bytes < _STEP:
        return f"{size_bytes} B"
    value = size_bytes / _STEP
    for unit in _UNITS[:-1]:
        if round(value, 1) < _STEP:
            return f"{value:.1f} {unit}"
        value /= _STEP
    return f"{value:.1f} {_UNITS[-1]}"
