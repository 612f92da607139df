"""Slurm's way of writing many host names as one: `node[001-003,7],login1` (hostlist expressions, scontrol(1)). Pure."""

from __future__ import annotations

import re
from itertools import product

from distckpt.errors import ConfigurationError

HOSTS_MAX = 65_536
"""Slurm's own limit for one range (MAX_RANGE in its hostlist.c)."""

_ITEM = re.compile(r"(?:[^\[\],\s]|\[[^\[\]]*\])+")
_PARTS = re.compile(r"\[([^\[\]]*)\]|([^\[\]]+)")
_RANGE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")


def expand(expression: str) -> tuple[str, ...]:
    """The hosts, in order. A range keeps the zeros that its first number begins with; a name may hold several.

    Raises ConfigurationError for anything else, and for more than HOSTS_MAX hosts.
    """
    hosts: list[str] = []
    position = 0
    while position < len(expression):
        item = _ITEM.match(expression, position)
        if item is None:
            raise _unreadable(expression, f"a host name was expected at character {position + 1}")
        hosts += _names(item[0], expression)
        _check_count(len(hosts), expression)
        position = item.end()
        if position < len(expression):
            if expression[position] != "," or position + 1 == len(expression):
                raise _unreadable(expression, f"not expected: character {position + 1}, {expression[position]!r}")
            position += 1
    if not hosts:
        raise _unreadable(expression, "it names no host")
    return tuple(hosts)


def _names(item: str, expression: str) -> list[str]:
    """`rack[1-2]-[a]` is not one: brackets hold numbers alone. The last bracket counts fastest."""
    choices: list[list[str]] = []
    count = 1
    for match in _PARTS.finditer(item):
        inside, text = match.groups()
        choices.append([text] if inside is None else _numbers(inside, expression))
        count *= len(choices[-1])
        _check_count(count, expression)
    return ["".join(parts) for parts in product(*choices)]


def _numbers(inside: str, expression: str) -> list[str]:
    numbers: list[str] = []
    for part in inside.split(","):
        match = _RANGE.fullmatch(part)
        if match is None:
            raise _unreadable(expression, f"[{inside}]: numbers and ranges were expected, as in [1,3-5]")
        first, last = match[1], match[2] or match[1]
        if int(last) < int(first):
            raise _unreadable(expression, f"{part} runs backwards")
        _check_count(len(numbers) + int(last) - int(first) + 1, expression)
        numbers += [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    return numbers


def _check_count(count: int, expression: str) -> None:
    if count > HOSTS_MAX:
        raise _unreadable(expression, f"it names more than {HOSTS_MAX:,} hosts")


def _unreadable(expression: str, why: str) -> ConfigurationError:
    shown = expression if len(expression) <= 200 else f"{expression[:200]}..."  # noqa: PLR2004 - fits two lines
    return ConfigurationError(f"the list of hosts {shown!r} cannot be read: {why}")
