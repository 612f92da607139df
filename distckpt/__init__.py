"""distckpt: the checkpoint coordinator that distributed TensorFlow training lacks.

The names below are the public ones. They are loaded on first use (PEP 562), so that `import distckpt` and the command
line do not import TensorFlow, which takes seconds. So is the module `distckpt.keras`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from distckpt import errors

if TYPE_CHECKING:
    from distckpt import keras
    from distckpt.catalog import Catalog
    from distckpt.iterator import checkpoints_iterator
    from distckpt.manager import CheckpointManager
    from distckpt.options import Options
    from distckpt.policy import EverySeconds, EverySteps
    from distckpt.preemption.notice import Preemption, PreemptionNotice
    from distckpt.protocol.retention import AnyOf, KeepBest, KeepEvery, KeepLatest
    from distckpt.tensors.worker_state import trackable

__version__ = "0.1.0"

__all__ = [
    "AnyOf",
    "Catalog",
    "CheckpointManager",
    "EverySeconds",
    "EverySteps",
    "KeepBest",
    "KeepEvery",
    "KeepLatest",
    "Options",
    "Preemption",
    "PreemptionNotice",
    "checkpoints_iterator",
    "errors",
    "keras",
    "trackable",
]

_HOMES = {
    "AnyOf": "distckpt.protocol.retention",
    "Catalog": "distckpt.catalog",
    "CheckpointManager": "distckpt.manager",
    "EverySeconds": "distckpt.policy",
    "EverySteps": "distckpt.policy",
    "KeepBest": "distckpt.protocol.retention",
    "KeepEvery": "distckpt.protocol.retention",
    "KeepLatest": "distckpt.protocol.retention",
    "Options": "distckpt.options",
    "Preemption": "distckpt.preemption.notice",
    "PreemptionNotice": "distckpt.preemption.notice",
    "checkpoints_iterator": "distckpt.iterator",
    "trackable": "distckpt.tensors.worker_state",
}


def __getattr__(name: str) -> object:
    if name == "keras":
        return import_module("distckpt.keras")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
