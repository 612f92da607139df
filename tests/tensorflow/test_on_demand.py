"""`step_end` of a `CheckpointManager` of one process: by the clock, by SIGUSR1, beside the user's own saves."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

import distckpt
from distckpt.policy import Schedule

DEADLINE_S = 60.0


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Any]:
    """Makes managers of one checkpoint in one directory."""
    checkpoint = tf.train.Checkpoint(weight=tf.Variable(1.0))
    made = []

    def manager(**arguments: Any) -> Any:
        made.append(distckpt.CheckpointManager(checkpoint, str(tmp_path / "job"), None, **arguments))
        return made[-1]

    yield manager
    for each in made:
        each.close()


def train_until_saved(manager: Any, step: int) -> tuple[int, str]:
    """Trains on from `step`: at which step it saved, and where."""
    until = time.monotonic() + DEADLINE_S
    while time.monotonic() < until:
        path = manager.step_end(step)
        if path is not None:
            return step, path
        step += 1
    raise AssertionError(f"nothing was saved until step {step}")


def test_it_saves_when_the_time_is_up_beside_the_steps_that_are_due(make: Any) -> None:
    manager = make(save_policy=distckpt.AnyOf(distckpt.EverySeconds(3600), distckpt.EverySteps(1000)))
    clock = [0.0]
    manager._triggers._schedule = manager._schedule = Schedule(distckpt.EverySeconds(3600), lambda: clock[0])
    assert [manager.step_end(step) for step in range(1, 50)] == [None] * 49
    clock[0] = 3600.0
    step, path = train_until_saved(manager, 50)
    assert path == str(Path(manager.directory) / f"ckpt-{step}")
    assert [manager.step_end(later) for later in range(step + 1, step + 50)] == [None] * 49


def test_metrics_are_gathered_only_where_a_save_is(make: Any) -> None:
    manager, gathered = make(save_policy=distckpt.EverySteps(3)), []

    def gather() -> dict[str, float]:
        gathered.append(1)
        return {"loss": 0.5}

    assert [manager.step_end(step, gather) for step in (1, 2)] == [None] * 2
    assert gathered == []
    manager.step_end(3, gather)
    assert gathered == [1]
    (checkpoint,) = distckpt.Catalog(manager.directory).checkpoints
    assert checkpoint.metrics == {"loss": 0.5}


def test_sigusr1_saves_at_the_end_of_a_step(make: Any) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    manager = make()
    assert manager.step_end(1) is None
    os.kill(os.getpid(), signal.SIGUSR1)
    step, path = train_until_saved(manager, 2)
    assert manager.checkpoints == [path]
    assert Path(path).name == f"ckpt-{step}"
    manager.close()
    assert signal.getsignal(signal.SIGUSR1) is before


def test_a_save_of_the_users_own_at_that_step_is_the_one(make: Any) -> None:
    manager = make()
    os.kill(os.getpid(), signal.SIGUSR1)
    step, path = 1, None
    while path is None:
        mine = manager.save(checkpoint_number=step)
        path = manager.step_end(step)
        step += 1
    assert path == mine
    assert len(manager.checkpoints) == step - 1
    assert int(manager.checkpoint.save_counter) == step - 1


def test_a_user_who_has_a_handler_of_his_own_keeps_it(make: Any) -> None:
    called = []
    before = signal.signal(signal.SIGUSR1, lambda *_: called.append(1))
    try:
        manager = make()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert [manager.step_end(step) for step in range(1, 20)] == [None] * 19
        assert called == [1]
    finally:
        signal.signal(signal.SIGUSR1, before)
