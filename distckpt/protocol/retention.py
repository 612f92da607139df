"""Which checkpoints retention removes: a pure function of what is committed, a policy, and who is reading.

A policy says what to keep. The newest commit and everything leased are kept whatever it says, so retention always
leaves a checkpoint to restore (invariant I4).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from distckpt.errors import ConfigurationError
from distckpt.model import Checkpoint

Chooser = Callable[[Sequence[Checkpoint]], Iterable[Checkpoint]]
"""A retention of one's own: of the committed checkpoints, oldest first, it returns those to keep."""

Each = TypeVar("Each")


@dataclass(frozen=True, slots=True)
class KeepLatest:
    """Keeps the last `n` commits (None: all)."""

    n: int | None

    def kept(self, checkpoints: Sequence[Checkpoint]) -> set[str]:
        last = checkpoints if self.n is None else checkpoints[max(0, len(checkpoints) - self.n) :]
        return {checkpoint.name for checkpoint in last}


@dataclass(frozen=True, slots=True)
class KeepBest:
    """Keeps the `n` with the least or greatest `metric`; of equals the older. Those without the metric do not count."""

    metric: str
    mode: Literal["min", "max"]
    n: int = 1

    def kept(self, checkpoints: Sequence[Checkpoint]) -> set[str]:
        measured = [c for c in checkpoints if not math.isnan(c.metrics.get(self.metric, math.nan))]
        best = sorted(measured, key=lambda c: c.metrics[self.metric], reverse=self.mode == "max")
        return {checkpoint.name for checkpoint in best[: self.n]}


@dataclass(frozen=True, slots=True)
class KeepEvery:
    """Keeps the first commit and then each that is at least `steps` steps, or `seconds` seconds, after the last kept.

    Exactly one of the two is given; else ValueError.
    """

    steps: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.seconds is None):
            raise ValueError("KeepEvery takes either steps or seconds")

    def kept(self, checkpoints: Sequence[Checkpoint]) -> set[str]:
        names: set[str] = set()
        next_at = -math.inf
        for checkpoint in checkpoints:
            at = checkpoint.timestamp if self.steps is None else checkpoint.step
            if at >= next_at:
                names.add(checkpoint.name)
                next_at = at + (self.seconds or self.steps or 0)
        return names


@dataclass(frozen=True, slots=True)
class KeepChosen:
    """Keeps what a function of the user's returns. `kept` raises ConfigurationError where it fails, or returns anything
    but checkpoints that it was given: what it means is not guessed.
    """

    choose: Chooser

    def kept(self, checkpoints: Sequence[Checkpoint]) -> set[str]:
        given = tuple(checkpoints)
        try:
            chosen = tuple(self.choose(given))
        except Exception as error:
            raise ConfigurationError(
                f"the retention {self.choose!r} failed: {type(error).__name__}: {error}"
            ) from error
        for each in chosen:
            if each not in given:
                raise ConfigurationError(
                    f"the retention {self.choose!r} returned {each!r}: it is to return those of the checkpoints that "
                    "it was given that are to be kept"
                )
        return {each.name for each in chosen}


@dataclass(frozen=True, slots=True, init=False)
class AnyOf(Generic[Each]):
    """Keeps what any of the policies, or functions of one's own, keeps; as a `save_policy` (policy.py): saves when any
    of them would.
    """

    policies: tuple[Each, ...]

    def __init__(self, *policies: Each) -> None:
        object.__setattr__(self, "policies", policies)

    def kept(self: AnyOf[Policy | Chooser], checkpoints: Sequence[Checkpoint]) -> set[str]:
        return set().union(*(policy_from(each).kept(checkpoints) for each in self.policies))


@dataclass(frozen=True, slots=True)
class Sparing:
    """Applies `policy` to all checkpoints but those of other managers: the names are one of `others` and a number, and
    not among those `inherited`, that were there before.
    """

    policy: Policy
    others: frozenset[str]
    inherited: frozenset[str]

    def spared(self, checkpoints: Sequence[Checkpoint]) -> set[str]:
        """Those of other managers."""
        theirs = {each.name for each in checkpoints if each.name.rstrip("0123456789") in self.others}
        return theirs - self.inherited

    def kept(self, checkpoints: Sequence[Checkpoint]) -> set[str]:
        spared = self.spared(checkpoints)
        return spared | self.policy.kept([each for each in checkpoints if each.name not in spared])


@dataclass(frozen=True, slots=True)
class Preservation:
    """TensorFlow's `keep_checkpoint_every_n_hours`. It is about what a policy removes: that is preserved instead if it
    was committed at least `hours` after the last preserved one. None or 0: nothing is.
    """

    hours: float | None = None

    def preserved(self, leaving: Sequence[tuple[str, float]], last: float) -> tuple[tuple[str, ...], float]:
        """Which of `leaving` stay, and the new time of the last preserved one, which was `last`.

        `leaving`: names with the times of their commits, oldest first; all times are seconds since the epoch.
        """
        names = []
        for name, timestamp in leaving:
            if self.hours and timestamp - self.hours * 3600.0 >= last:  # TensorFlow's own arithmetic, to the bit
                names.append(name)
                last = timestamp
        return tuple(names), last


NO_PRESERVATION = Preservation()

Policy = KeepLatest | KeepBest | KeepEvery | KeepChosen | AnyOf[Any] | Sparing
_POLICIES = (KeepLatest, KeepBest, KeepEvery, KeepChosen, Sparing)


def policy_from(given: Policy | Chooser) -> Policy:
    """What the user gave, as a policy. Raises ConfigurationError for what is neither a policy nor a function."""
    if isinstance(given, AnyOf):
        return AnyOf(*map(policy_from, given.policies))
    if isinstance(given, _POLICIES):
        return given
    if not callable(given):
        raise ConfigurationError(f"retention={given!r} is neither a policy, such as KeepLatest(3), nor a function")
    return KeepChosen(given)


def select_retired(checkpoints: Sequence[Checkpoint], policy: Policy, leased: Collection[str]) -> tuple[str, ...]:
    """The names to remove, oldest first. `checkpoints`: the live ones in the order of their commits."""
    kept = policy.kept(checkpoints) | set(leased) | {checkpoint.name for checkpoint in checkpoints[-1:]}
    return tuple(checkpoint.name for checkpoint in checkpoints if checkpoint.name not in kept)
