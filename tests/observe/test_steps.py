"""Step times: the dip that a save makes is seen, and fast steps do not fill the memory."""

from __future__ import annotations

import pytest

from distckpt.observe.happenings import StepEnded
from distckpt.observe.steps import WINDOWS_MAX, Steps


def test_a_long_step_stands_out_of_the_mean() -> None:
    steps = Steps()
    times = [0.0, 0.1, 0.2, 1.0, 1.1]
    told = [steps.ended(number, now) for number, now in enumerate(times, start=5)]
    assert told[0] is None
    assert told[3] == StepEnded(8, pytest.approx(0.8))
    (window,) = steps.recent
    assert (window.step, window.longest_s) == (8, pytest.approx(0.8))
    assert window.mean_s == pytest.approx(1.0 / 3)


def test_going_back_to_a_checkpoint_is_no_step() -> None:
    steps = Steps()
    steps.ended(10, 0.0)
    assert steps.ended(3, 100.0) is None
    assert steps.ended(4, 101.0) == StepEnded(4, 1.0)
    assert [window.longest_s for window in steps.recent] == [1.0]


def test_a_thousand_steps_a_second_are_a_few_windows() -> None:
    steps = Steps()
    for number in range(10_000):
        steps.ended(number, number / 1000)
    assert 35 <= len(steps.recent) <= 40
    for number in range(10_000, 10_000 + 2 * WINDOWS_MAX):
        steps.ended(number, 10.0 + number)
    assert len(steps.recent) == WINDOWS_MAX
