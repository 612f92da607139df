"""The limits that `coordination.proto` states, checked on everything that arrives.

A value outside of them is refused with `MalformedMessage`, which says which field, and what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite
from types import MappingProxyType

from distckpt.model import NO_METRICS

NAME_CHARS_MAX = 16_384
TEXT_CHARS_MAX = 65_536
RANK_MAX = 254  # TensorFlow's TensorShape::MaxDimensions
WORKER_MAX = 1_048_575
MESSAGE_BYTES_MAX = 64 * 1024 * 1024


class MalformedMessage(ValueError):
    """A message that cannot be sent, or must not be acted on. Says which field, and what is wrong with it."""


def count(value: int, field: str, least: int = 0) -> int:
    if value < least:
        raise MalformedMessage(f"{field} is {value}: at least {least} was expected")
    return value


def counts(values: Iterable[int], field: str) -> tuple[int, ...]:
    result = tuple(values)
    if result and min(result) < 0:
        raise MalformedMessage(f"{field} holds {min(result)}: nothing negative was expected")
    return result


def shape(values: Iterable[int], field: str) -> tuple[int, ...]:
    result = counts(values, field)
    if len(result) > RANK_MAX:
        raise MalformedMessage(f"{field} has {len(result)} dimensions: at most {RANK_MAX} are possible")
    return result


def worker(value: int, field: str) -> int:
    if not 0 <= value <= WORKER_MAX:
        raise MalformedMessage(f"{field} is {value}: a worker's index is 0 to {WORKER_MAX}")
    return value


def name(value: str, field: str) -> str:
    if not value:
        raise MalformedMessage(f"{field} is empty")
    return optional_name(value, field)


def optional_name(value: str, field: str) -> str:
    if len(value) > NAME_CHARS_MAX:
        raise MalformedMessage(f"{field} has {len(value)} characters: at most {NAME_CHARS_MAX} were expected")
    return value


def names(values: Iterable[str], field: str) -> tuple[str, ...]:
    return tuple(name(value, field) for value in values)


def text(value: str, field: str) -> str:
    if len(value) > TEXT_CHARS_MAX:
        raise MalformedMessage(f"{field} has {len(value)} characters: at most {TEXT_CHARS_MAX} were expected")
    return value


def finite(value: float, field: str) -> float:
    if not isfinite(value):
        raise MalformedMessage(f"{field} is {value}: a finite number was expected")
    return value


def seconds(value: float, field: str) -> float:
    if not (isfinite(value) and value >= 0):
        raise MalformedMessage(f"{field} is {value}: a number of seconds was expected")
    return value


def metrics(values: Mapping[str, float], field: str) -> Mapping[str, float]:
    """Any double passes, NaN and infinities too: a loss may diverge, and the save must not fail for that."""
    if not values:
        return NO_METRICS
    return MappingProxyType({name(key, f"a name in {field}"): value for key, value in values.items()})


def cut(value: str) -> str:
    """`value` made fit to travel: what is too long is cut, what UTF-8 cannot hold is written as an escape.

    For texts for people: a report of a failure must get through, whatever its text.
    """
    return value.encode("utf-8", "backslashreplace").decode("utf-8")[:TEXT_CHARS_MAX]
