"""`distckpt.CheckpointManager` with one worker: TensorFlow's contract, and what it adds."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

import distckpt
from distckpt import errors
from distckpt.report import SaveReport

ROOT = Path(__file__).parents[2]


class Training:
    """A checkpoint with a variable that counts, and managers on one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.weight = tf.Variable(tf.zeros([50, 20]))
        self.step = tf.Variable(0, dtype=tf.int64)
        self.checkpoint = tf.train.Checkpoint(weight=self.weight, step=self.step)
        self.managers: list[Any] = []

    def manager(self, max_to_keep: int | None = 3, **arguments: Any) -> Any:
        made = distckpt.CheckpointManager(self.checkpoint, str(self.directory), max_to_keep, **arguments)
        self.managers.append(made)
        return made

    def train(self, value: float) -> None:
        self.weight.assign(tf.fill([50, 20], value))
        self.step.assign_add(1)

    def restored(self, name: str) -> float:
        """What plain TensorFlow restores."""
        weight = tf.Variable(tf.zeros([50, 20]))
        tf.train.Checkpoint(weight=weight).restore(str(self.directory / name)).expect_partial()
        return float(weight[0, 0])


@pytest.fixture
def training(tmp_path: Path) -> Iterator[Training]:
    made = Training(tmp_path / "checkpoints")
    yield made
    for manager in made.managers:
        manager.close()


def test_it_is_a_tensorflow_checkpoint_manager_and_writes_what_tensorflow_reads(training: Training) -> None:
    manager = training.manager(max_to_keep=2)
    assert isinstance(manager, tf.train.CheckpointManager)
    assert manager.directory == str(training.directory)
    assert (manager.latest_checkpoint, manager.checkpoints, manager.checkpoint_interval) == (None, [], None)
    for value in (1.0, 2.0, 3.0):
        training.train(value)
        path = manager.save()
    assert path == str(training.directory / "ckpt-3")
    assert manager.latest_checkpoint == tf.train.latest_checkpoint(str(training.directory)) == path
    assert manager.checkpoints == [str(training.directory / name) for name in ("ckpt-2", "ckpt-3")]
    assert training.restored("ckpt-2") == 2.0
    assert training.restored("ckpt-3") == 3.0
    assert not list(training.directory.glob("ckpt-1*"))
    assert int(training.checkpoint.save_counter) == 3


@pytest.mark.parametrize("number", [7, tf.constant(7), tf.Variable(7, dtype=tf.int64)])
def test_the_number_may_be_an_integer_a_tensor_or_a_variable(number: Any, training: Training) -> None:
    assert training.manager().save(checkpoint_number=number) == str(training.directory / "ckpt-7")


def test_the_interval_is_kept_as_in_tensorflow(training: Training) -> None:
    manager = training.manager(step_counter=training.step, checkpoint_interval=2)
    saved = []
    for _ in range(5):
        training.train(1.0)
        saved.append(manager.save() is not None)
    assert saved == [True, False, True, False, True]
    assert manager.save(check_interval=False) is None
    training.train(1.0)
    assert manager.save(check_interval=False) is not None


def test_a_restart_goes_on_where_the_last_run_ended(training: Training) -> None:
    with training.manager() as manager:
        assert manager.restore_or_initialize() is None
        for value in (1.0, 2.0):
            training.train(value)
            manager.save()
    training.train(9.0)
    again = training.manager()
    assert again.checkpoints == [str(training.directory / name) for name in ("ckpt-1", "ckpt-2")]
    assert again.restore_or_initialize() == str(training.directory / "ckpt-2")
    assert (float(training.weight[0, 0]), int(training.step)) == (2.0, 2)
    again.restore(1).assert_consumed()
    assert float(training.weight[0, 0]) == 1.0
    again.restore("latest").assert_consumed()
    assert float(training.weight[0, 0]) == 2.0


def test_init_fn_is_called_where_there_is_nothing_to_restore(training: Training) -> None:
    called = []
    manager = training.manager(init_fn=lambda: called.append(True))
    assert manager.restore_or_initialize() is None
    assert called == [True]


@pytest.mark.parametrize("strategy", [tf.distribute.get_strategy, lambda: tf.distribute.OneDeviceStrategy("CPU:0")])
def test_it_saves_under_the_strategies_of_one_worker(strategy: Any, training: Training) -> None:
    chosen = strategy()
    with chosen.scope():
        training.checkpoint.more = tf.Variable([1.0, 2.0])
        manager = training.manager()
        path = manager.save()
    training.checkpoint.more.assign([0.0, 0.0])
    manager.restore_or_initialize()
    assert training.checkpoint.more.numpy().tolist() == [1.0, 2.0]
    found = tf.train.load_checkpoint(path).get_variable_to_shape_map()
    stock = tf.train.load_checkpoint(training.checkpoint.write(str(training.directory / "stock")))
    assert found == stock.get_variable_to_shape_map()


def test_the_best_is_restored_by_its_metric(training: Training) -> None:
    manager = training.manager(retention=distckpt.KeepBest("accuracy", "max", 5))
    for value, accuracy in ((1.0, 0.5), (2.0, 0.9), (3.0, 0.7)):
        training.train(value)
        manager.save(metrics={"accuracy": accuracy})
    manager.restore("best:accuracy")
    assert float(training.weight[0, 0]) == 2.0
    manager.restore("best:accuracy:min")
    assert float(training.weight[0, 0]) == 1.0
    with pytest.raises(errors.ConfigurationError, match="loss:max or best:loss:min"):
        manager.restore("best:loss")


def test_a_function_of_ones_own_says_what_is_kept_and_its_errors_remove_nothing(
    training: Training, caplog: pytest.LogCaptureFixture
) -> None:
    def even(checkpoints: Sequence[Any]) -> list[Any]:
        if checkpoints[-1].metrics.get("broken"):
            raise KeyError("loss")
        return [each for each in checkpoints if each.step % 2 == 0]

    manager = training.manager(retention=even)
    for step in range(1, 6):
        training.train(float(step))
        manager.save(checkpoint_number=step)
    assert [Path(path).name for path in manager.checkpoints] == ["ckpt-2", "ckpt-4", "ckpt-5"]
    manager.save(checkpoint_number=6, metrics={"broken": 1.0})
    assert "even" in caplog.text
    assert "failed: KeyError: 'loss'" in caplog.text
    kept = ["ckpt-2", "ckpt-4", "ckpt-5", "ckpt-6"]
    assert [Path(path).name for path in manager.checkpoints] == kept
    state = tf.train.get_checkpoint_state(str(training.directory))
    assert [Path(path).name for path in state.all_model_checkpoint_paths] == kept
    manager.save(checkpoint_number=8)
    assert not list(training.directory.glob("ckpt-5.*"))


def test_an_asynchronous_save_holds_the_values_of_its_step(training: Training) -> None:
    manager = training.manager(max_to_keep=None, async_save=True, save_policy=distckpt.EverySteps(2))
    paths = []
    for step in range(1, 9):
        training.train(float(step))
        paths.append(manager.step_end(step))
    manager.wait()
    assert [path is not None for path in paths] == [False, True] * 4
    assert [training.restored(f"ckpt-{step}") for step in (2, 4, 6, 8)] == [2.0, 4.0, 6.0, 8.0]
    report = manager.last_save
    assert isinstance(report, SaveReport)
    assert (report.step, report.name, report.bytes_by_worker) == (8, "ckpt-8", (report.bytes,))
    assert 0 < report.blocking_s < report.commit_s or report.commit_s > 0


def test_a_failed_asynchronous_save_is_raised_by_the_next_call_and_training_goes_on(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = training.manager(async_save=True, save_policy=distckpt.EverySteps(1))
    broken = monkeypatch.context()
    with broken as patch:
        patch.setattr("distckpt.runtime.agent.write_share", _full)
        manager.step_end(1)
        with pytest.raises(errors.StorageFull, match="no space") as caught:
            manager.wait()
        assert caught.value.advice == "retry"
        manager.step_end(2)
        with pytest.raises(errors.StorageFull):
            manager.step_end(3)
    assert manager.step_end(4) is not None
    manager.wait()
    assert manager.checkpoints == [str(training.directory / "ckpt-4")]


def _full(*_: Any, **__: Any) -> None:
    raise errors.StorageNoSpace("no space left on device", "shard")


def test_callbacks_of_checkpoint_options_run_in_order_after_the_commit(training: Training) -> None:
    seen: list[Any] = []
    manager = training.manager()

    def with_path(path: str) -> None:
        seen.append((path, tf.train.latest_checkpoint(str(training.directory))))

    def without() -> None:
        seen.append("second")

    options = tf.train.CheckpointOptions(experimental_write_callbacks=[with_path, without])
    path = manager.save(options=options)
    assert seen == [(path, path), "second"]


def test_a_checkpoint_that_plain_tensorflow_wrote_is_adopted_and_goes_on(training: Training) -> None:
    stock = tf.train.CheckpointManager(training.checkpoint, str(training.directory), max_to_keep=2)
    for value in (1.0, 2.0):
        training.train(value)
        stock.save()
    training.train(9.0)
    manager = training.manager(max_to_keep=2)
    assert manager.checkpoints == stock.checkpoints
    assert manager.restore_or_initialize() == str(training.directory / "ckpt-2")
    assert float(training.weight[0, 0]) == 2.0
    assert manager.save() == str(training.directory / "ckpt-3")
    assert not list(training.directory.glob("ckpt-1*"))


def test_plain_tensorflow_goes_on_where_distckpt_ended(training: Training) -> None:
    with training.manager(max_to_keep=2) as manager:
        training.train(1.0)
        manager.save()
    stock = tf.train.CheckpointManager(training.checkpoint, str(training.directory), max_to_keep=2)
    assert stock.checkpoints == manager.checkpoints
    training.train(9.0)
    assert stock.restore_or_initialize() == manager.latest_checkpoint
    assert float(training.weight[0, 0]) == 1.0


@pytest.mark.parametrize("garbage", [b"\xff\xfe\x00 no text", b"garbage", b""])
def test_a_garbage_state_file_does_not_send_the_training_back_to_the_start(garbage: bytes, training: Training) -> None:
    stock = tf.train.CheckpointManager(training.checkpoint, str(training.directory), max_to_keep=3)
    for value in (1.0, 2.0):
        training.train(value)
        stock.save()
    (training.directory / "checkpoint").write_bytes(garbage)
    training.train(9.0)
    manager = training.manager()
    assert manager.restore_or_initialize() == str(training.directory / "ckpt-2")
    assert float(training.weight[0, 0]) == 2.0
    assert tf.train.latest_checkpoint(str(training.directory)) == str(training.directory / "ckpt-2")


def test_a_corrupt_shard_sends_everyone_to_the_checkpoint_before_it_loudly(
    training: Training, caplog: pytest.LogCaptureFixture
) -> None:
    manager = training.manager()
    for value in (1.0, 2.0):
        training.train(value)
        manager.save()
    flip_a_bit(training.directory / "ckpt-2.data-00000-of-00001")
    assert manager.restore_or_initialize() == str(training.directory / "ckpt-1")
    assert float(training.weight[0, 0]) == 1.0
    assert manager.checkpoints == [str(training.directory / "ckpt-1")]
    assert "ckpt-2 is corrupt" in caplog.text
    assert tf.train.latest_checkpoint(str(training.directory)) == str(training.directory / "ckpt-1")


def test_a_corrupt_step_that_was_asked_for_is_refused_before_a_variable_changes(training: Training) -> None:
    manager = training.manager()
    for value in (1.0, 2.0):
        training.train(value)
        manager.save()
    flip_a_bit(training.directory / "ckpt-1.data-00000-of-00001")
    with pytest.raises(errors.DistckptError, match="ckpt-1"):
        manager.restore(1)
    assert float(training.weight[0, 0]) == 2.0


def test_where_all_is_corrupt_training_does_not_start_from_scratch(training: Training) -> None:
    manager = training.manager()
    manager.save()
    flip_a_bit(training.directory / "ckpt-1.data-00000-of-00001")
    with pytest.raises(errors.NoRestorableCheckpoint):
        manager.restore_or_initialize()


def test_nor_does_it_at_any_later_start(training: Training) -> None:
    manager = training.manager()
    manager.save()
    flip_a_bit(training.directory / "ckpt-1.data-00000-of-00001")
    with pytest.raises(errors.NoRestorableCheckpoint):
        manager.restore_or_initialize()
    manager.close()
    started: list[str] = []
    again = training.manager(init_fn=lambda: started.append("from scratch"))
    with pytest.raises(errors.NoRestorableCheckpoint, match="set aside as corrupt: ckpt-1"):
        again.restore_or_initialize()
    assert started == []
    assert tf.train.latest_checkpoint(str(training.directory)) is None


def test_nor_where_the_files_of_all_are_gone(training: Training) -> None:
    manager = training.manager()
    manager.save()
    manager.close()
    for path in [*training.directory.glob("ckpt-*"), *training.directory.glob(".distckpt/staging/*/*")]:
        path.unlink()
    with pytest.raises(errors.NoRestorableCheckpoint, match="set aside as corrupt: ckpt-1"):
        training.manager().restore_or_initialize()


def test_what_is_set_aside_is_listed_with_its_reason_and_its_bytes_stay(training: Training) -> None:
    manager = training.manager()
    for value in (1.0, 2.0):
        training.train(value)
        manager.save()
    data = training.directory / "ckpt-2.data-00000-of-00001"
    flip_a_bit(data)
    bytes_found = data.read_bytes()
    index = (training.directory / "ckpt-2.index").read_bytes()
    manager.restore_or_initialize()
    (aside,) = distckpt.Catalog(training.directory).quarantined
    assert aside.checkpoint.name == "ckpt-2"
    assert "the checksum does not match" in aside.reason
    assert data.read_bytes() == bytes_found
    assert (training.directory / ".distckpt/quarantine/ckpt-2.index").read_bytes() == index
    assert not (training.directory / "ckpt-2.index").exists(), "TensorFlow sees it no more"


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_after_closing_a_save_says_so(training: Training) -> None:
    manager = training.manager()
    manager.close()
    manager.close()
    for call in (manager.save, manager.restore_or_initialize, lambda: manager.step_end(1)):
        with pytest.raises(errors.ManagerClosed):
            call()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"max_to_keep": 0}, "max_to_keep"),
        ({"worker_state": tf.Variable(0)}, "worker_state"),
        ({"preemption": "SIGTERM"}, "preemption"),
        ({"save_policy": 600}, "save_policy"),
        ({"checkpoint_interval": 2}, "step_counter"),
    ],
)
def test_arguments_that_cannot_be_are_refused_by_name(arguments: dict[str, Any], word: str, training: Training) -> None:
    with pytest.raises(ValueError, match=word):
        training.manager(**arguments)


def test_a_worker_of_a_cluster_without_its_strategy_is_refused(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}'
    monkeypatch.setenv("TF_CONFIG", cluster)
    with pytest.raises(errors.ConfigurationError, match="strategy"):
        training.manager()


def test_a_manager_that_was_dropped_finishes_its_save_and_ends_its_threads(
    training: Training,
) -> None:
    def train_and_forget() -> None:
        manager = distckpt.CheckpointManager(training.checkpoint, str(training.directory), 3, async_save=True)
        manager.save()

    train_and_forget()
    gc.collect()
    for thread in threading.enumerate():
        if thread.name == "distckpt-farewell":
            thread.join(60)
    assert (training.directory / "ckpt-1.index").exists()
    assert not [thread for thread in threading.enumerate() if thread.name == "distckpt-agent"]
    assert training.manager().checkpoints == [str(training.directory / "ckpt-1")]


def test_a_script_that_ends_without_waiting_loses_no_save(tmp_path: Path) -> None:
    script = """
import sys, tensorflow as tf, distckpt
checkpoint = tf.train.Checkpoint(v=tf.Variable(tf.ones([1000, 1000])))
manager = distckpt.CheckpointManager(checkpoint, sys.argv[1], 3, async_save=True)
manager.save()
sys.exit(3)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, timeout=120, check=False, capture_output=True
    )
    assert done.returncode == 3
    assert b"Traceback" not in done.stderr
    assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / "ckpt-1")
    assert (
        float(tf.train.load_checkpoint(str(tmp_path / "ckpt-1")).get_tensor("v/.ATTRIBUTES/VARIABLE_VALUE").sum())
        == 1e6
    )
