"""Which checkpoint a restore is to take, in words that all workers send alike (`messages.RestoreRequest.selector`)."""

from __future__ import annotations

from distckpt.errors import ConfigurationError
from distckpt.protocol.retention import Chooser, KeepBest, Policy


def selector_of(step: int | str | None, retention: Policy | Chooser) -> str:
    """`step`: a step, "latest" (also None), "best:METRIC:MODE", or "best:METRIC" of a retention that knows the mode.

    Raises ConfigurationError where it does not.
    """
    if step is None:
        return "latest"
    text = str(step)
    if text.startswith("best:") and text.count(":") == 1:
        if isinstance(retention, KeepBest) and retention.metric == text.removeprefix("best:"):
            return f"{text}:{retention.mode}"
        raise ConfigurationError(f"is more or less of it better? say {text}:max or {text}:min")
    return text
