"""Reading JSON that may hold anything: each field has a type, and a fault names the file and the field."""

from __future__ import annotations

from math import isfinite
from typing import cast

from distckpt.errors import CorruptJournal

INTEGER_MAX = 2**63 - 1
"""More is neither a step nor a size of anything, and travels in no message."""


class Fields:
    """The fields of one JSON object, `where` in the file `path`. Every method raises CorruptJournal."""

    def __init__(self, value: object, path: str, where: str = "") -> None:
        if not isinstance(value, dict):
            raise CorruptJournal(path, f"{where or 'the content'} is no object")
        self._fields = cast(dict[str, object], value)
        self._path = path
        self._where = where

    def text(self, name: str) -> str:
        value = self._get(name)
        if not isinstance(value, str):
            raise self._fault(name, "is no text")
        return value

    def integer(self, name: str) -> int:
        """A number that is whole and not negative: nothing in the journal is."""
        value = self._get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= INTEGER_MAX:
            raise self._fault(name, "is no whole number from 0 on, or too large")
        return value

    def flag(self, name: str) -> bool:
        value = self._get(name)
        if not isinstance(value, bool):
            raise self._fault(name, "is neither true nor false")
        return value

    def number(self, name: str) -> float:
        """A finite one."""
        value = self._as_number(self._get(name), name)
        if not isfinite(value):
            raise self._fault(name, "is not finite")
        return value

    def numbers(self, name: str) -> dict[str, float]:
        """An object of numbers; those that JSON does not know stand as "nan", "inf" and "-inf"."""
        value = self._get(name)
        if not isinstance(value, dict):
            raise self._fault(name, "is no object")
        return {str(key): self._as_number(each, f"{name}.{key}") for key, each in value.items()}

    def texts(self, name: str) -> tuple[str, ...]:
        values = self._list(name)
        if not all(isinstance(value, str) for value in values):
            raise self._fault(name, "is no list of texts")
        return tuple(cast(list[str], values))

    def inner(self, name: str) -> Fields:
        return Fields(self._get(name), self._path, self._where + name)

    def inners(self, name: str) -> list[Fields]:
        return [Fields(each, self._path, f"{self._where}{name}[{n}]") for n, each in enumerate(self._list(name))]

    def has(self, name: str) -> bool:
        return name in self._fields

    def is_null(self, name: str) -> bool:
        return self._get(name) is None

    def _get(self, name: str) -> object:
        if name not in self._fields:
            raise self._fault(name, "is missing")
        return self._fields[name]

    def _list(self, name: str) -> list[object]:
        value = self._get(name)
        if not isinstance(value, list):
            raise self._fault(name, "is no list")
        return value

    def _as_number(self, value: object, name: str) -> float:
        if isinstance(value, str) and value in ("nan", "inf", "-inf"):
            return float(value)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self._fault(name, "is no number")
        try:
            return float(value)
        except OverflowError:
            raise self._fault(name, "is no number of 64 bits") from None

    def _fault(self, name: str, detail: str) -> CorruptJournal:
        return CorruptJournal(self._path, f"field {self._where + '.' if self._where else ''}{name} {detail}")
