"""Save policies: what counts steps, what counts seconds, and both together."""

from __future__ import annotations

import math
from typing import Any

import pytest

from distckpt import AnyOf, EverySeconds, EverySteps, KeepLatest
from distckpt.errors import ConfigurationError
from distckpt.policy import Schedule


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_seconds_are_counted_from_the_start_and_then_from_each_save(clock: Clock) -> None:
    schedule = Schedule(EverySeconds(60), clock)
    clock.now += 59.0
    assert not schedule.time_is_up()
    clock.now += 1.0
    assert schedule.time_is_up()
    schedule.begin()
    assert not schedule.time_is_up()
    assert not any(schedule.due(step) for step in range(100))


def test_any_of_several_policies_saves(clock: Clock) -> None:
    schedule = Schedule(AnyOf(EverySteps(4), AnyOf(EverySteps(6), EverySeconds(60)), EverySeconds(30)), clock)
    assert [step for step in range(1, 13) if schedule.due(step)] == [4, 6, 8, 12]
    assert schedule.seconds == 30


def test_without_a_policy_nothing_is_saved(clock: Clock) -> None:
    schedule = Schedule(None, clock)
    clock.now += 1e9
    assert not schedule.due(0)
    assert not schedule.time_is_up()


@pytest.mark.parametrize("policy", [AnyOf(EverySteps(2), KeepLatest(1)), KeepLatest(3), 600])
def test_what_says_what_to_keep_is_refused_where_it_is_to_say_when_to_save(policy: Any) -> None:
    with pytest.raises(ConfigurationError, match="save_policy takes EverySteps, EverySeconds or AnyOf"):
        Schedule(policy)


@pytest.mark.parametrize("seconds", [0, -1.0, math.inf, math.nan, True, "60"])
def test_seconds_that_cannot_be_are_refused(seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match="EverySeconds"):
        EverySeconds(seconds)
