"""`preemption=` of a `CheckpointManager` of one process: what it does at a notice, and what it refuses."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

import distckpt
from distckpt import errors
from distckpt.preemption.notice import settings_of
from distckpt.preemption.watch import RIVAL_STEPS
from distckpt.runtime import agent

DEADLINE_S = 60.0
YES = True


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Any]:
    """Makes managers of one checkpoint in one directory. Signals are afterwards as they were."""
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    checkpoint = tf.train.Checkpoint(weight=tf.Variable(tf.zeros([100])))
    made = []

    def manager(preemption: Any = YES, **arguments: Any) -> Any:
        made.append(
            distckpt.CheckpointManager(checkpoint, str(tmp_path / "job"), None, preemption=preemption, **arguments)
        )
        return made[-1]

    yield manager
    for each in made:
        each.close()
    for signum, handler in before.items():
        signal.signal(signum, handler)


def train_on(manager: Any, step: int, enough: Any = lambda: False) -> int:
    """Trains on from `step` until `enough`, or the manager ends the process; the next step."""
    until = time.monotonic() + DEADLINE_S
    while time.monotonic() < until and not enough():
        manager.step_end(step)
        step += 1
    return step


@pytest.mark.parametrize("async_save", [False, True])
def test_sigterm_saves_and_ends_with_143_after_the_commit(make: Any, async_save: Any) -> None:
    manager = make(async_save=async_save)
    manager.step_end(1)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        train_on(manager, 2)
    assert ended.value.code == 143
    (checkpoint,) = distckpt.Catalog(manager.directory).checkpoints
    assert checkpoint.step >= 2
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN, "told again, it ends with 143 all the same"


def test_the_exit_code_is_the_one_that_was_said_and_ctrl_c_is_a_notice_too(make: Any) -> None:
    manager = make(distckpt.Preemption(exit_code=85))
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(SystemExit) as ended:
        train_on(manager, 1)
    assert ended.value.code == 85


def test_without_an_exit_code_the_training_goes_on_until_it_is_killed(make: Any) -> None:
    manager = make(distckpt.Preemption(exit_code=None))
    os.kill(os.getpid(), signal.SIGTERM)
    step = train_on(manager, 1, lambda: manager.checkpoints)
    manager.step_end(step)
    assert len(manager.checkpoints) == 1


def test_a_save_that_does_not_fit_is_declined_and_what_is_in_flight_is_finished(
    make: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    manager = make(distckpt.Preemption(grace_s=0.05), async_save=True, save_policy=distckpt.EverySteps(1))
    written = threading.Event()

    def slow(*arguments: Any, **named: Any) -> Any:
        written.wait(0.2)
        return honest(*arguments, **named)

    honest = agent.write_share
    monkeypatch.setattr("distckpt.runtime.agent.write_share", slow)
    manager.step_end(1)
    manager.wait()  # this one is measured
    manager._schedule._steps = []
    manager.save(checkpoint_number=2)  # in flight
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        train_on(manager, 3)
    assert ended.value.code == 143
    assert [each.step for each in distckpt.Catalog(manager.directory).checkpoints] == [1, 2]
    assert "declined: a save takes" in caplog.text
    assert "what is in flight is finished" in caplog.text


def test_a_failed_save_before_the_end_is_tried_again(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, calls = agent.write_share, []

    def fails_once(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise errors.StorageNoSpace("no space left")
        return honest(*arguments, **named)

    monkeypatch.setattr("distckpt.runtime.agent.write_share", fails_once)
    manager = make()
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(SystemExit):
        train_on(manager, 1)
    assert len(distckpt.Catalog(manager.directory).checkpoints) == 1


def test_closing_puts_the_handlers_back(make: Any) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    manager = make()
    assert signal.getsignal(signal.SIGTERM) != before[0]
    manager.close()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_outside_of_the_main_thread_the_constructor_says_so_and_leaves_the_directory_free(make: Any) -> None:
    errors_seen: list[Exception] = []

    def construct() -> None:
        try:
            make()
        except errors.ConfigurationError as error:
            errors_seen.append(error)

    thread = threading.Thread(target=construct)
    thread.start()
    thread.join()
    assert "main thread" in str(errors_seen[0])
    assert make(None).save() is not None


class PreemptionCheckpointHandler:
    """Named and bound as TensorFlow's, which needs a cluster: failure_handling.py sets its bound method as handler."""

    def handle(self, *_: object) -> None:
        pass


def test_tensorflows_own_handler_is_refused_whoever_came_first(make: Any) -> None:
    rival = PreemptionCheckpointHandler()
    before = signal.signal(signal.SIGTERM, rival.handle)
    with pytest.raises(errors.ConfigurationError, match="has taken SIGTERM"):
        make()
    signal.signal(signal.SIGTERM, before)
    manager = make()
    manager.step_end(1)
    signal.signal(signal.SIGTERM, rival.handle)
    with pytest.raises(errors.ConfigurationError, match="Use one of them"):
        any(manager.step_end(step) for step in range(2, 2 + RIVAL_STEPS))


@pytest.mark.parametrize(
    "bad",
    [
        lambda: distckpt.Preemption(exit_code=256),
        lambda: distckpt.Preemption(grace_s=0.0),
        lambda: distckpt.Preemption(time_limit_s=float("nan")),
        lambda: settings_of("SIGTERM"),  # type: ignore[arg-type]  # what is refused
        lambda: distckpt.Preemption().grace({"DISTCKPT_GRACE_S": "soon"}),
    ],
)
def test_settings_that_cannot_be_are_refused(bad: Any) -> None:
    with pytest.raises(errors.ConfigurationError):
        bad()


def test_the_grace_is_what_was_said_else_what_the_environment_says() -> None:
    assert distckpt.Preemption(grace_s=5.0).grace({"DISTCKPT_GRACE_S": "60"}) == 5.0
    assert distckpt.Preemption().grace({"DISTCKPT_GRACE_S": "60"}) == 60.0
    assert distckpt.Preemption().grace({}) == 30.0
