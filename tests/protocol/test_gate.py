"""The gate between the training's thread and the agent's, which take no common lock at a step's end."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from distckpt.protocol.gate import Gate
from distckpt.protocol.messages import Agreed

STEP = 7


class Side:
    """What one of the two threads does, and what it was told."""

    def __init__(self, act: Callable[[int], int], argument: int) -> None:
        self._act = act
        self._argument = argument
        self.told = -1

    def __call__(self) -> None:
        self.told = self._act(self._argument)


def run_with_intruder(act: Callable[[], object], intruder: Callable[[], object], at: int) -> bool:
    """Runs `act` and, before its `at`-th instruction, all of `intruder`. False: it has fewer."""
    left = at

    def each(_: FrameType, event: str, __: Any) -> Any:
        nonlocal left
        if event == "opcode":
            left -= 1
            if left == 0:
                sys.settrace(None)
                intruder()
        return each

    def begin(frame: FrameType, _: str, __: Any) -> Any:
        frame.f_trace_opcodes = True
        return each

    sys.settrace(begin)
    try:
        act()
    finally:
        sys.settrace(None)
    return left <= 0


@pytest.mark.parametrize("intruding", ["the training", "the agent"])
def test_a_ceiling_holds_the_training_whenever_it_comes(intruding: str) -> None:
    """The steps of two threads, instruction by instruction: each of them at once within the other, wherever."""
    for at in range(1, 1000):
        gate = Gate()
        gate.ended(STEP - 1)
        training, agent = Side(gate.ended, STEP), Side(gate.set_ceiling, 1)
        outer, inner = (training, agent) if intruding == "the agent" else (agent, training)
        if not run_with_intruder(outer, inner, at):
            break
        goes_on = not training.told or not gate.holds
        assert not (goes_on and agent.told <= STEP), f"it passes its ceiling {agent.told} (instruction {at})"
        assert gate.ended(agent.told), "the next time it looks"
        assert gate.holds
    else:
        pytest.fail("it does not end")
    assert at > 5, "there is something to intrude on"


def test_a_training_that_nothing_is_agreed_with_is_asked_for_nothing() -> None:
    gate = Gate()
    assert not gate.ended(1)
    gate.set_ceiling(1)
    assert gate.ended(1)
    gate.lift(1)
    assert not gate.ended(2)


def test_what_was_agreed_on_is_taken_once_and_then_nothing_is_asked_for() -> None:
    gate, agreed = Gate(), Agreed(1, 5, "a test", final=False)
    gate.ended(4)
    gate.set_ceiling(1)
    gate.foresee(agreed)
    assert gate.ended(4)
    assert gate.take_due() is None
    assert gate.ended(5)
    assert gate.take_due() == agreed
    assert not gate.ended(6)
