"""`tf.train.CheckpointManager`'s contract: the same scenario with TensorFlow's manager and with ours, side by side.

Compared are return values, properties, the files that TensorFlow knows, and TensorFlow's state file, field by field.
"""

from __future__ import annotations

import gc
import os
import pathlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

import distckpt
from distckpt import errors

HOUR = 3600.0


class Clock:
    """What `tf.train.CheckpointManager` sees in place of the module `time`."""

    def __init__(self) -> None:
        self.now = 10_000.0

    def time(self) -> float:
        return self.now


@dataclass
class Side:
    """One of the two: makes managers of its class in its own directory, and writes down what can be seen."""

    make_class: Any
    directory: Path
    clock: Clock
    seen: list[Any] = field(default_factory=list)
    managers: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.weight = tf.Variable(0.0)
        self.step = tf.Variable(0, dtype=tf.int64)
        self.checkpoint = tf.train.Checkpoint(weight=self.weight, step=self.step)

    def manager(self, max_to_keep: int | None, directory: Any = None, **arguments: Any) -> Any:
        where = str(self.directory) if directory is None else directory
        made = self.make_class(self.checkpoint, where, max_to_keep, **arguments)
        self.managers.append(made)
        self.note(made)
        return made

    def forget(self) -> None:
        """As `del manager` does."""
        self.managers.clear()
        gc.collect()

    def save(self, manager: Any, **arguments: Any) -> str | None:
        path: str | None = manager.save(**arguments)
        self.note(manager, path)
        return path

    def note(self, manager: Any, *values: Any) -> None:
        """Writes down all that can be seen of `manager` and its directory, and `values`; paths below the directory."""
        manager.sync()
        state = tf.train.get_checkpoint_state(str(self.directory))
        self.seen.append(
            (
                [self._below(value) for value in values],
                [self._below(path) for path in manager.checkpoints],
                self._below(manager.latest_checkpoint),
                self._below(tf.train.latest_checkpoint(str(self.directory))),
                manager.checkpoint_interval,
                int(self.checkpoint.save_counter),
                self._indexes(),
                state
                and (
                    self._below(state.model_checkpoint_path),
                    [self._below(path) for path in state.all_model_checkpoint_paths],
                    list(state.all_model_checkpoint_timestamps),
                    state.last_preserved_timestamp,
                ),
            )
        )

    def _indexes(self) -> list[str]:
        """Without what is below .distckpt: staging is tidied up behind the commit."""
        shown = [path for path in self.directory.glob("*") if path.name != ".distckpt"]
        files = [*shown, *(below for path in shown for below in path.rglob("*"))]
        return sorted(path.relative_to(self.directory).as_posix() for path in files if path.suffix == ".index")

    def _below(self, value: Any) -> Any:
        return os.path.relpath(value, self.directory) if isinstance(value, str) else value


Scenario = Callable[[Side], object]


@pytest.fixture
def clock() -> Iterator[Clock]:
    made = Clock()
    with mock.patch("tensorflow.python.checkpoint.checkpoint_management.time", made):
        yield made


@pytest.fixture
def same(tmp_path: Path, clock: Clock) -> Iterator[Callable[[Scenario], Side]]:
    """Plays a scenario on both sides, and compares; returns ours."""
    sides: list[Side] = []

    def play(scenario: Scenario) -> Side:
        for name, made in (("stock", tf.train.CheckpointManager), ("ours", distckpt.CheckpointManager)):
            clock.now = 10_000.0
            sides.append(Side(made, tmp_path / name / "checkpoints", clock))
            scenario(sides[-1])
        stock, ours = sides
        for number, (expected, found) in enumerate(zip(stock.seen, ours.seen, strict=True)):
            assert found == expected, f"observation {number} of {len(stock.seen)}"
        return ours

    yield play
    for manager in sides[-1].managers:
        manager.close()


def test_the_active_set_over_restarts_with_another_max_to_keep(same: Any) -> None:
    def scenario(side: Side) -> None:
        for keep, saves in ((None, 3), (None, 1), (3, 1), (1, 2)):
            manager = side.manager(keep)
            for _ in range(saves):
                side.clock.now += 10.0
                side.save(manager)
            del manager
            side.forget()

    same(scenario)


@pytest.mark.parametrize("hours", [0.2, 1.0, 1.5, 0, None])
def test_every_n_hours_one_is_preserved_and_the_next_run_goes_on_with_that(hours: float | None, same: Any) -> None:
    def scenario(side: Side) -> None:
        for keep in (2, 1, 3):
            manager = side.manager(keep, keep_checkpoint_every_n_hours=hours)
            for minutes in (0, 61, 12, 30, 30, 30, 90, 1):
                side.clock.now += minutes * 60.0
                side.save(manager)
            del manager
            side.forget()

    same(scenario)


def test_what_an_earlier_run_preserved_is_never_deleted_whatever_the_later_one_asks(same: Any) -> None:
    def scenario(side: Side) -> None:
        manager = side.manager(1, keep_checkpoint_every_n_hours=1.0)
        for _ in range(4):
            side.clock.now += 1.5 * HOUR
            side.save(manager)
        again = side.manager(1)
        for _ in range(3):
            side.clock.now += HOUR
            side.save(again)

    ours = same(scenario)
    assert ours._indexes() == [f"ckpt-{step}.index" for step in (1, 2, 3, 7)]
    kept = {each.name: each.preserved for each in distckpt.Catalog(ours.directory).checkpoints}
    assert kept == {"ckpt-1": True, "ckpt-2": True, "ckpt-3": True, "ckpt-7": False}
    ours.managers[-1].restore(2).assert_consumed()
    assert int(ours.checkpoint.save_counter) == 2


def test_a_clock_that_went_back_keeps_rather_too_much_and_is_told(same: Any) -> None:
    def scenario(side: Side) -> None:
        first = side.manager(1, keep_checkpoint_every_n_hours=1.0)
        for _ in range(3):
            side.save(first)
            side.clock.now += HOUR
        side.clock.now = 5000.0
        with mock.patch("tensorflow.python.checkpoint.checkpoint_management.logging.warning") as warned:
            second = side.manager(1)
        side.seen.append("behind the last preserved checkpoint timestamp" in str(warned.call_args))
        for _ in range(2):
            side.clock.now += 10.0
            side.save(second)
        side.clock.now += 1000.0
        side.save(side.manager(1))

    ours = same(scenario)
    assert True in ours.seen


def test_times_in_the_future_count_as_now(same: Any) -> None:
    def scenario(side: Side) -> None:
        first = side.manager(None)
        for _ in range(2):
            side.clock.now += HOUR
            side.save(first)
        side.clock.now = 10_500.0
        second = side.manager(2, keep_checkpoint_every_n_hours=0.1)
        for _ in range(3):
            side.clock.now += 60.0
            side.save(second)

    same(scenario)


def test_checkpoints_of_bare_checkpoint_save_are_restored_and_left_alone(same: Any) -> None:
    def scenario(side: Side) -> None:
        prefix = str(side.directory / "unusual_prefix")
        for value in (1.0, 2.0):
            side.weight.assign(value)
            side.checkpoint.save(prefix)
        side.checkpoint = tf.train.Checkpoint(weight=side.weight)
        side.weight.assign(9.0)
        manager = side.manager(2)
        side.note(manager, manager.restore_or_initialize(), float(side.weight))
        for _ in range(3):
            side.clock.now += 10.0
            side.save(manager)
        side.save(side.manager(1))

    same(scenario)


def test_what_plain_tensorflow_preserved_in_between_is_not_deleted(tmp_path: Path, clock: Clock) -> None:
    ours = Side(distckpt.CheckpointManager, tmp_path, clock)
    with ours.manager(2) as manager:
        ours.save(manager)
    stock = tf.train.CheckpointManager(ours.checkpoint, str(tmp_path), 1, keep_checkpoint_every_n_hours=1.0)
    for _ in range(3):
        clock.now += 2 * HOUR
        stock.save()
    again = ours.manager(1)
    assert again.checkpoints == stock.checkpoints
    assert again.latest_checkpoint == stock.latest_checkpoint
    again.save()
    again.save()
    assert {"ckpt-2.index", "ckpt-3.index"} <= set(ours._indexes())
    assert "ckpt-4.index" not in ours._indexes()
    again.close()


def test_what_cannot_be_saved_raises_tensorflows_error_and_the_next_save_goes_through(same: Any) -> None:
    def scenario(side: Side) -> None:
        manager = side.manager(2)
        side.checkpoint.iterator = iter(tf.data.Dataset.range(9).map(lambda _: tf.random.uniform([])))
        with pytest.raises(tf.errors.FailedPreconditionError):
            manager.save()
        side.checkpoint.iterator = iter(tf.data.Dataset.range(9))
        side.save(manager)

    same(scenario)


def test_numbers_of_ones_own_and_a_name_that_comes_again(same: Any) -> None:
    def scenario(side: Side) -> None:
        manager = side.manager(2)
        for number in (side.step, 7, np.int64(3), tf.constant(11), np.int32(7), 3, 7):
            side.step.assign_add(2)
            side.clock.now += 1.0
            side.save(manager, checkpoint_number=number)

    same(scenario)


@pytest.mark.parametrize("name", ["ckpt", "model.best", "sub/ckpt", "a/b/c", "with space"])
def test_names_of_ones_own_also_with_separators(name: str, same: Any) -> None:
    def scenario(side: Side) -> None:
        manager = side.manager(2, checkpoint_name=name)
        for _ in range(3):
            side.save(manager)
        again = side.manager(1)
        side.note(again, again.restore_or_initialize())
        side.save(again)

    same(scenario)


def test_the_saved_checkpoint_holds_the_counter_after_its_increment(same: Any) -> None:
    def scenario(side: Side) -> None:
        manager = side.manager(3)
        for number in (None, 50):
            path = side.save(manager, checkpoint_number=number)
            assert path is not None
            reader = tf.train.load_checkpoint(path)
            side.seen.append(int(reader.get_tensor("save_counter/.ATTRIBUTES/VARIABLE_VALUE")))

    assert same(scenario).seen[-1] == 2


@pytest.mark.parametrize("last", [None, 0, 1, 3])
def test_the_interval_counts_from_the_last_checkpoint_step(last: int | None, same: Any) -> None:
    def scenario(side: Side) -> None:
        manager = side.manager(
            None, step_counter=side.step, checkpoint_interval=2, last_checkpoint_step=last, checkpoint_name="c"
        )
        for check in (True, True, True, False, True, False):
            side.save(manager, check_interval=check)
            side.save(manager, check_interval=False)
            side.step.assign_add(1)

    same(scenario)


def test_restore_or_initialize_sets_the_interval_to_the_restored_step(same: Any) -> None:
    def scenario(side: Side) -> None:
        side.step.assign(4)
        side.checkpoint.save(str(side.directory / "ckpt"))
        side.step.assign(0)
        manager = side.manager(None, step_counter=side.step, checkpoint_interval=2)
        side.note(manager, manager.restore_or_initialize(), int(side.step))
        for _ in range(4):
            side.save(manager)
            side.step.assign_add(1)

    same(scenario)


def test_init_fn_is_called_until_there_is_a_checkpoint(same: Any) -> None:
    def scenario(side: Side) -> None:
        called: list[bool] = []
        manager = side.manager(None, init_fn=lambda: called.append(True))
        side.note(manager, manager.restore_or_initialize(), manager.restore_or_initialize(), len(called))
        side.save(manager)
        side.note(manager, manager.restore_or_initialize(), len(called))

    same(scenario)


def test_directories_may_be_path_likes_and_relative(same: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def scenario(side: Side) -> None:
        side.directory.parent.mkdir(parents=True)
        monkeypatch.chdir(side.directory.parent)
        for directory in (pathlib.Path("checkpoints"), "checkpoints", "./checkpoints", "checkpoints/"):
            manager = side.manager(2, directory)
            path = manager.save()
            side.seen.append((manager.directory, path, manager.checkpoints, manager.latest_checkpoint))
            side.note(manager)

    same(scenario)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_write_callbacks_run_in_order_and_the_options_stay_as_they_were(asynchronous: bool, same: Any) -> None:  # noqa: FBT001 - a parameter of the test
    def scenario(side: Side) -> None:
        called: list[Any] = []
        callbacks = [lambda: called.append("first"), lambda path: called.append(side._below(path))]
        options = tf.train.CheckpointOptions(experimental_write_callbacks=callbacks, enable_async=asynchronous)
        manager = side.manager(1)
        for _ in range(3):
            side.save(manager, options=options)
        side.seen.append((called, len(callbacks), len(options.experimental_write_callbacks)))

    same(scenario)


def test_a_callback_that_raises_is_raised_by_save_and_an_asynchronous_one_by_the_next_call(
    tmp_path: Path, clock: Clock
) -> None:
    ours = Side(distckpt.CheckpointManager, tmp_path, clock)

    def bad() -> None:
        raise LookupError("from the callback")

    with ours.manager(3) as manager:
        with pytest.raises(LookupError, match="from the callback"):
            manager.save(options=tf.train.CheckpointOptions(experimental_write_callbacks=[bad]))
        options = tf.train.CheckpointOptions(experimental_write_callbacks=[bad], enable_async=True)
        assert manager.save(options=options) is not None
        with pytest.raises(LookupError, match="from the callback"):
            manager.save()
        manager.sync()
        manager.save()
        assert [Path(path).name for path in manager.checkpoints] == ["ckpt-1", "ckpt-2", "ckpt-4"]


def test_managers_that_take_turns_go_on_each_from_what_all_have_saved(tmp_path: Path, clock: Clock) -> None:
    """TensorFlow's each go by a list of their own, and delete, or forget, what the others wrote."""
    ours = Side(distckpt.CheckpointManager, tmp_path, clock)
    first, second, third = (ours.manager(keep) for keep in (2, 3, None))
    names: list[list[str]] = []
    for manager in (first, second, third, first, first, second):
        clock.now += 1.0
        path = ours.save(manager)
        assert path == manager.latest_checkpoint == tf.train.latest_checkpoint(str(tmp_path))
        names.append([Path(each).name for each in manager.checkpoints])
    assert names == [
        ["ckpt-1"],
        ["ckpt-1", "ckpt-2"],
        ["ckpt-1", "ckpt-2", "ckpt-3"],
        ["ckpt-3", "ckpt-4"],
        ["ckpt-4", "ckpt-5"],
        ["ckpt-4", "ckpt-5", "ckpt-6"],
    ]
    second.close()
    assert first.restore_or_initialize() == str(tmp_path / "ckpt-6")
    with pytest.raises(errors.ManagerClosed):
        second.save()
    first.close()
    third.close()


def test_a_manager_that_was_made_second_waits_for_the_save_in_flight_of_the_first(tmp_path: Path, clock: Clock) -> None:
    ours = Side(distckpt.CheckpointManager, tmp_path, clock)
    first = ours.manager(3, async_save=True)
    path = first.save()
    second = ours.manager(3)
    assert second.latest_checkpoint == path
    first.wait()
    second.close()
    first.close()


def test_a_second_manager_that_could_not_be_made_takes_nothing_from_the_first(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = Side(distckpt.CheckpointManager, tmp_path, clock)
    first = ours.manager(3)
    first.save()
    with monkeypatch.context() as patch:
        patch.setattr("distckpt.runtime.chief.recover", mock.Mock(side_effect=errors.StorageError("the disk is away")))
        for broken in (lambda: ours.manager(3), first.save):
            with pytest.raises(errors.StorageError, match="the disk is away"):
                broken()
    ours.save(first, checkpoint_number=7)
    assert [Path(path).name for path in first.checkpoints] == ["ckpt-1", "ckpt-7"]
    first.close()


def test_preserved_ones_are_restored_by_step_and_where_the_newest_is_corrupt(tmp_path: Path, clock: Clock) -> None:
    ours = Side(distckpt.CheckpointManager, tmp_path, clock)
    manager = ours.manager(1, keep_checkpoint_every_n_hours=1.0)
    for value in (1.0, 2.0, 3.0):
        ours.weight.assign(value)
        clock.now += 2 * HOUR
        ours.save(manager)
    manager.restore(1).assert_consumed()
    assert float(ours.weight) == 1.0
    shard = tmp_path / "ckpt-3.data-00000-of-00001"
    shard.write_bytes(bytes(shard.stat().st_size))
    assert manager.restore_or_initialize() == str(tmp_path / "ckpt-2")
    assert float(ours.weight) == 2.0
    assert (manager.checkpoints, manager.latest_checkpoint) == ([], str(tmp_path / "ckpt-2"))
    assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / "ckpt-2")
    manager.close()


def test_managers_of_different_directories_do_not_disturb_each_other(tmp_path: Path, clock: Clock) -> None:
    sides = [Side(distckpt.CheckpointManager, tmp_path / name, clock) for name in ("a", "b")]
    managers = [side.manager(1) for side in sides]
    sessions = [manager._session for manager in managers]
    for _ in range(2):
        for side, manager in zip(sides, managers, strict=True):
            side.save(manager)
    assert [manager._session for manager in managers] == sessions
    for manager in managers:
        manager.close()


@pytest.mark.parametrize(
    ("directory", "name"),
    [
        ("ram://somewhere", "ckpt"),
        ("gs://bucket/run", "ckpt"),
        (None, "/elsewhere/ckpt"),
        (None, "../ckpt"),
        (None, ".distckpt/ckpt"),
    ],
)
def test_places_that_cannot_be_are_refused_before_anything_is_made(
    directory: str | None, name: str, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ours = Side(distckpt.CheckpointManager, tmp_path, clock)
    with pytest.raises(errors.ConfigurationError, match=r"director|below|own files"):
        distckpt.CheckpointManager(ours.checkpoint, directory or str(tmp_path), 1, checkpoint_name=name)
    assert not list(tmp_path.iterdir())


def test_a_negative_number_is_refused(tmp_path: Path, clock: Clock) -> None:
    ours = Side(distckpt.CheckpointManager, tmp_path, clock)
    with ours.manager(1) as manager, pytest.raises(errors.ConfigurationError, match="-3"):
        manager.save(checkpoint_number=-3)
