"""A kind of message: the field of the envelope that holds it, its class, and the way to protobuf and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Kind:
    field: str
    cls: type
    to: Callable[[Any], Any]
    back: Callable[[Any], Any]
