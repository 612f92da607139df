"""Effects in words, one line each, for transcripts. Heartbeats and what is only logged are left out."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, is_dataclass

from distckpt.model import Cause, Checkpoint, Shard, TensorSpec
from distckpt.protocol import effects
from distckpt.protocol.messages import Alive, Heartbeat


def word(who: str, effect: effects.AgentEffect | effects.CoordinatorEffect) -> list[str]:
    match effect:
        case effects.Tell(envelope=envelope):
            return [] if isinstance(envelope.message, Heartbeat) else [f"{who} -> c  {shown(envelope.message)}"]
        case effects.Send(envelope=envelope):
            silent = isinstance(envelope.message, Alive)
            return [] if silent else [f"c -> {envelope.receiver.worker}  {shown(envelope.message)}"]
        case effects.Log():
            return []
        case _:
            return [f"{who}: {shown(effect)}"]


def shown(value: object) -> str:
    """`Class(field=value, ...)` without empty fields."""
    match value:
        case Cause(kind, message):
            return f"{kind}: {message}"
        case Checkpoint(name=text) | Shard(handle=text) | TensorSpec(name=text):
            return text
        case tuple():
            return f"[{', '.join(shown(each) for each in value)}]"
    if not is_dataclass(value):
        return str(value)
    named = ((field.name, getattr(value, field.name)) for field in fields(value))
    told = (f"{name}={shown(each)}" for name, each in named if _tells(name, each))
    return f"{type(value).__name__}({', '.join(told)})"


def _tells(name: str, value: object) -> bool:
    return value not in (None, "", (), -1) and name != "metrics" and (name != "salvage" or bool(value))


def without_repeats(lines: list[str]) -> list[str]:
    """Each line once, where it came first, with how often it came."""
    return [line if times == 1 else f"{line}  ({times} times)" for line, times in Counter(lines).items()]
