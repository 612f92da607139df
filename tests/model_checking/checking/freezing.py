"""Copies of a state machine, and what makes two of them the same.

Not part of what is the same: words for people (stories, the texts of causes), effects that were handed out, and when a
worker was last heard of, by which no silence is measured in here.
"""

from __future__ import annotations

import copyreg
import pickle
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from distckpt.model import Cause

T = TypeVar("T")
_FOR_PEOPLE = {"_story", "_what", "what", "doing", "_effects", "effects", "_end_cause", "heard_at"}
_PLAIN = (str, bytes, int, float, bool, type(None))


def _proxy_of(content: dict[Any, Any]) -> MappingProxyType[Any, Any]:
    return MappingProxyType(content)


copyreg.pickle(MappingProxyType, lambda proxy: (_proxy_of, (dict(proxy),)))


def freeze(thing: Any, seen: dict[int, int] | None = None) -> Hashable:
    """Equal for states that behave alike. An object met again is told by the order in which they were met."""
    seen = {} if seen is None else seen
    if isinstance(thing, _PLAIN):
        return thing
    if isinstance(thing, Enum):
        return thing.name
    if isinstance(thing, Cause):
        return "Cause", thing.kind, thing.worker
    if isinstance(thing, tuple | list | deque | Mapping | set | frozenset):
        return _collection(thing, seen)
    if id(thing) in seen:
        return "again", seen[id(thing)]
    seen[id(thing)] = len(seen)
    kept = ((name, value) for name, value in attributes(thing) if name not in _FOR_PEOPLE)
    return type(thing).__name__, *((name, freeze(value, seen)) for name, value in kept)


def _collection(thing: Any, seen: dict[int, int]) -> Hashable:
    if isinstance(thing, Mapping):
        return "map", *sorted(((freeze(k, seen), freeze(v, seen)) for k, v in thing.items()), key=repr)
    frozen = (freeze(each, seen) for each in thing)
    return type(thing).__name__, *(sorted(frozen, key=repr) if isinstance(thing, set | frozenset) else frozen)


def attributes(thing: Any) -> list[tuple[str, Any]]:
    """What an object holds, by name: what it says itself, where it has a say, else its slots and its dictionary."""
    if "__getstate__" in vars(type(thing)) and hasattr(thing, "__dict__"):
        return sorted(thing.__getstate__().items())
    slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    found = {name: getattr(thing, name) for name in slots if hasattr(thing, name)}
    return sorted((found | getattr(thing, "__dict__", {})).items())


class Table(Generic[T]):
    """Numbers for values: the same number for those that freeze alike. `of` makes a copy of the first of them."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._stored: list[bytes] = []

    def __len__(self) -> int:
        return len(self._stored)

    def number(self, thing: T) -> int:
        frozen = freeze(thing)
        found = self._numbers.get(frozen)
        if found is None:
            found = self._numbers[frozen] = len(self._stored)
            self._stored.append(pickle.dumps(thing))
        return found

    def of(self, number: int) -> T:
        thing: T = pickle.loads(self._stored[number])
        return thing


def bits(mask: int) -> list[int]:
    found = []
    while mask:
        low = mask & -mask
        found.append(low.bit_length() - 1)
        mask ^= low
    return found


def memoised(function: Callable[..., T]) -> Callable[..., T]:
    """`function` of numbers, called once for each."""
    known: dict[tuple[Any, ...], T] = {}

    def call(*arguments: Any) -> T:
        if arguments not in known:
            known[arguments] = function(*arguments)
        return known[arguments]

    return call
