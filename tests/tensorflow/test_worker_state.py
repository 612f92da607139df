"""`worker_state=`: each kind of state a worker can have, through `distckpt.CheckpointManager` on one worker.

Several workers: tests/runtime/test_worker_state.py, and as real processes tests/faults/test_exact_resume.py.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest
import tensorflow as tf
import tf_keras

import distckpt
from distckpt.errors import ConfigurationError, UnsupportedState
from distckpt.model import Place
from distckpt.tensors.cluster import ALONE
from distckpt.tensors.worker_state import WorkerState, trackable

PER_REPLICA = tf.distribute.InputOptions(
    experimental_fetch_to_device=False,
    experimental_replication_mode=tf.distribute.InputReplicationMode.PER_REPLICA,
)


class Position(tf.train.experimental.PythonState):  # type: ignore[misc]  # TensorFlow has no types
    """Python state of one's own, as TensorFlow offers it."""

    def __init__(self) -> None:
        self.line = 0

    def serialize(self) -> str:
        return str(self.line)

    def deserialize(self, string_value: Any) -> None:
        self.line = int(tf.compat.as_text(string_value))

    def advance(self) -> int:
        self.line += 1
        return self.line


def shuffled(examples: int = 60) -> Any:
    return tf.data.Dataset.range(examples).shuffle(20, seed=3).repeat(2).batch(4)


def of_iterator(iterator: Any) -> tuple[Any, Callable[[], Any]]:
    return tf.train.Checkpoint(iterator=iterator), lambda: next(iterator)


def a_dataset_iterator() -> Any:
    return of_iterator(iter(shuffled()))


def a_parallel_pipeline() -> Any:
    options = tf.data.Options()
    options.deterministic = True
    dataset = shuffled().map(lambda x: x * 2, num_parallel_calls=4).prefetch(2).with_options(options)
    return of_iterator(iter(dataset))


def a_numpy_iterator() -> Any:
    return of_iterator(shuffled().as_numpy_iterator())


def a_distributed_iterator() -> Any:
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    iterator = iter(strategy.distribute_datasets_from_function(lambda _: shuffled(), PER_REPLICA))
    return tf.train.Checkpoint(iterator=trackable(iterator)), lambda: next(iterator)


def a_distributed_iterator_in_a_function() -> Any:
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    iterator = iter(strategy.distribute_datasets_from_function(lambda _: shuffled(), PER_REPLICA))

    @tf.function  # type: ignore[untyped-decorator]  # TensorFlow has no types
    def take(source: Any) -> Any:
        return next(source)

    return tf.train.Checkpoint(iterator=trackable(iterator)), lambda: take(iterator)


def a_random_generator() -> Any:
    rng = tf.random.Generator.from_seed(7)
    return tf.train.Checkpoint(rng=rng), lambda: rng.normal([3])


def a_keras_seed_generator() -> Any:
    seeds = keras.random.SeedGenerator(7)  # itself not trackable by TensorFlow: its state is
    return tf.train.Checkpoint(seeds=seeds.state), lambda: keras.random.normal([3], seed=seeds)


def a_keras_metric() -> Any:
    metric = keras.metrics.Mean()
    count = iter(range(100))

    def update() -> Any:
        metric.update_state(float(next(count) * 0 + 1) + metric.result())
        return metric.result()

    return tf.train.Checkpoint(metric=metric.variables), update


def a_tf_keras_metric() -> Any:
    metric = tf_keras.metrics.Mean()

    def update() -> Any:
        metric.update_state(1.0 + metric.result())
        return metric.result()

    return tf.train.Checkpoint(metric=metric), update


def python_state() -> Any:
    position = Position()
    return tf.train.Checkpoint(position=position), position.advance


def a_variable_and_a_table() -> Any:
    counter = tf.Variable(0, dtype=tf.int64)
    table = tf.lookup.experimental.MutableHashTable(tf.int64, tf.int64, -1)

    def count() -> Any:
        counter.assign_add(1)
        table.insert(counter[tf.newaxis], counter[tf.newaxis] * 10)
        return table.export()[1]

    return tf.train.Checkpoint(counter=counter, table=table), lambda: sorted(count().numpy().tolist())


KINDS = [
    a_dataset_iterator,
    a_parallel_pipeline,
    a_numpy_iterator,
    a_distributed_iterator,
    a_distributed_iterator_in_a_function,
    a_random_generator,
    a_keras_seed_generator,
    a_keras_metric,
    a_tf_keras_metric,
    python_state,
    a_variable_and_a_table,
]


def plain(value: Any) -> Any:
    value = keras.ops.convert_to_numpy(value) if not isinstance(value, int | list) else value
    return value if isinstance(value, int | list) else value.tolist()


def model() -> Any:
    return tf.train.Checkpoint(weights=tf.Variable(tf.zeros([100])), step=tf.Variable(0, dtype=tf.int64))


def manager(checkpoint: Any, folder: Path, **arguments: Any) -> Any:
    return distckpt.CheckpointManager(checkpoint, str(folder), max_to_keep=3, **arguments)


@pytest.mark.parametrize("kind", KINDS)
def test_a_restart_goes_on_where_the_state_was_saved(kind: Any, tmp_path: Path) -> None:
    state, act = kind()
    with manager(model(), tmp_path, worker_state=state) as first:
        assert first.restore_or_initialize() is None
        for _ in range(3):
            act()
        first.save(checkpoint_number=1)
        expected = [plain(act()) for _ in range(4)]
    again, act = kind()
    with manager(model(), tmp_path, worker_state=again) as second:
        assert second.restore_or_initialize() is not None
        assert [plain(act()) for _ in range(4)] == expected
    assert distckpt.Catalog(tmp_path).verify(1) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_save_behind_the_step_holds_the_state_of_its_step(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writing begins only when the training has gone on."""
    state, act = kind()
    gone_on = threading.Event()
    payloads = distckpt.tensors.worker_state.StateSnapshot.payloads  # type: ignore[attr-defined]  # loaded above
    monkeypatch.setattr(
        distckpt.tensors.worker_state.StateSnapshot,  # type: ignore[attr-defined]  # the same
        "payloads",
        lambda self: gone_on.wait(60) and payloads(self),
    )
    with manager(model(), tmp_path, worker_state=state, async_save=True) as saving:
        act()
        saving.save(checkpoint_number=1)
        expected = [plain(act()) for _ in range(4)]
        gone_on.set()
        saving.wait()
        saving.restore(1)
        assert [plain(act()) for _ in range(4)] == expected


def test_plain_tensorflow_reads_both_and_misses_nothing_in_either(tmp_path: Path) -> None:
    checkpoint, (state, act) = model(), a_dataset_iterator()
    with manager(checkpoint, tmp_path, worker_state=state) as saving:
        act()
        path = saving.save(checkpoint_number=1)
        expected = plain(act())
    tf.train.Checkpoint(weights=tf.Variable(tf.ones([100])), step=tf.Variable(1, dtype=tf.int64)).restore(
        path
    ).assert_consumed()
    iterator = iter(shuffled())
    tf.train.Checkpoint(iterator=iterator).restore(f"{path}.worker-00000-of-00001").assert_consumed()
    assert plain(next(iterator)) == expected
    assert tf.train.latest_checkpoint(str(tmp_path)) == path


@pytest.mark.parametrize("end", ["index", "data-00000-of-00001"])
@pytest.mark.parametrize("gone", [False, True])
def test_a_broken_state_is_not_restored_and_nor_is_its_checkpoint(tmp_path: Path, end: str, gone: bool) -> None:  # noqa: FBT001 - a parameter of the test
    checkpoint, (state, act) = model(), a_dataset_iterator()
    with manager(checkpoint, tmp_path, worker_state=state) as saving:
        act()
        checkpoint.step.assign(1)
        saving.save(checkpoint_number=1)
        expected = plain(act())
        checkpoint.step.assign(2)
        saving.save(checkpoint_number=2)
        victim = tmp_path / f"ckpt-2.worker-00000-of-00001.{end}"
        data = bytearray(victim.read_bytes())
        data[len(data) // 2] ^= 1
        own_name = [path for path in (tmp_path / ".distckpt").rglob("*") if path.is_file() and path.samefile(victim)]
        for path in [victim, *own_name]:
            path.unlink()
        if not gone:
            victim.write_bytes(data)
        assert saving.restore_or_initialize() == str(tmp_path / "ckpt-1")
        assert int(checkpoint.step) == 1
        assert plain(act()) == expected


def test_what_other_numbers_of_workers_saved_is_refused_before_anything_changes(tmp_path: Path) -> None:
    checkpoint, (state, _) = model(), a_random_generator()
    with manager(checkpoint, tmp_path, worker_state=state) as saving:
        checkpoint.step.assign(1)
        saving.save(checkpoint_number=1)
        checkpoint.step.assign(5)
        saving._worker_state.place = Place(0, 3)  # as if two more had joined: there are no three processes here
        with pytest.raises(ConfigurationError, match="of 1 workers, and this job has 3"):
            saving.restore_or_initialize()
        assert int(checkpoint.step) == 5


@pytest.mark.parametrize("choice", ["drop", "spread"])
def test_the_choice_is_an_option(tmp_path: Path, choice: Any) -> None:
    (state, act), checkpoint = a_random_generator(), model()
    with manager(checkpoint, tmp_path, worker_state=state, options=distckpt.Options(changed_world=choice)) as saving:
        saving.save(checkpoint_number=1)
        first, second = plain(act()), plain(act())
        saving.restore(1)
        assert plain(act()) == first
        saving._worker_state.place = Place(2, 3)  # as above
        saving.restore(1)
        assert plain(act()) == (first if choice == "spread" else second)


def test_another_choice_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'error', 'drop', 'spread'"):
        distckpt.Options(changed_world="shuffle")  # type: ignore[arg-type]  # what is tested


def test_a_checkpoint_of_plain_tensorflow_has_no_state_and_that_is_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = model()
    tf.train.CheckpointManager(checkpoint, str(tmp_path), max_to_keep=3).save()
    state, act = a_random_generator()
    first = plain(act())
    with manager(checkpoint, tmp_path, worker_state=state) as saving, caplog.at_level(logging.WARNING):
        assert saving.restore_or_initialize() is not None
    assert "ckpt-1 holds no worker_state: worker 0 keeps the one it has" in caplog.text
    assert plain(act()) != first, "it was not set back"


def test_a_state_that_nobody_asks_for_is_left_alone(tmp_path: Path) -> None:
    checkpoint, (state, _) = model(), a_random_generator()
    with manager(checkpoint, tmp_path, worker_state=state) as saving:
        path = saving.save(checkpoint_number=1)
    with manager(model(), tmp_path) as without:
        assert without.restore_or_initialize() == path


def test_a_restore_into_something_else_leaves_the_state_alone(tmp_path: Path) -> None:
    checkpoint, (state, act) = model(), a_random_generator()
    with manager(checkpoint, tmp_path, worker_state=state) as saving:
        saving.save(checkpoint_number=1)
        first = plain(act())
        saving.restore(1, into=tf.train.Checkpoint(weights=tf.Variable(tf.ones([100])))).expect_partial()
        assert plain(act()) != first


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"worker_state takes a tf.train.Checkpoint.*not a OwnedIterator"):
        manager(model(), tmp_path, worker_state=iter(shuffled()))


def test_a_graph_is_refused(tmp_path: Path) -> None:
    with tf.Graph().as_default(), pytest.raises(ConfigurationError, match="worker_state is saved eagerly"):
        manager(tf.train.Checkpoint(), tmp_path, worker_state=tf.train.Checkpoint())


@pytest.mark.parametrize(
    "dataset",
    [
        lambda: tf.data.Dataset.from_generator(lambda: iter(range(9)), output_signature=tf.TensorSpec([], tf.int64)),
        lambda: tf.data.Dataset.range(9).map(lambda _: tf.random.uniform([])),
        lambda: tf.data.Dataset.range(9).map(lambda x: tf.numpy_function(lambda y: y, [x], tf.int64)),
    ],
)
def test_an_iterator_that_tensorflow_cannot_save_is_named(dataset: Any, tmp_path: Path) -> None:
    state = tf.train.Checkpoint(data=iter(dataset()))
    with (
        manager(model(), tmp_path, worker_state=state) as saving,
        pytest.raises(UnsupportedState, match=r"'data', a OwnedIterator.*stateful"),
    ):
        saving.save(checkpoint_number=1)
    assert distckpt.Catalog(tmp_path).checkpoints == ()


def test_a_distributed_iterator_that_reads_ahead_is_refused_and_told_how() -> None:
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    for iterator in (
        iter(strategy.distribute_datasets_from_function(lambda _: shuffled())),
        iter(strategy.experimental_distribute_dataset(shuffled())),
    ):
        with pytest.raises(UnsupportedState, match="PER_REPLICA"):
            trackable(iterator)
    with pytest.raises(UnsupportedState, match="list_iterator"):
        trackable(iter([1, 2]))


def test_what_is_aggregated_over_all_workers_is_not_one_workers_state() -> None:
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        metric = tf_keras.metrics.Mean()
    state = tf.train.Checkpoint(metric=metric)
    assert WorkerState(state, ALONE).capture().own_bytes > 0, "one worker alone is all workers"
    with pytest.raises(UnsupportedState, match=r"metric/count.*strategy.scope\(\)"):
        WorkerState(state, Place(1, 2)).capture()


def test_the_size_of_an_iterator_is_that_of_the_last_one_written() -> None:
    iterator = iter(tf.data.Dataset.range(5000).shuffle(1000, seed=1))
    next(iterator)
    state = WorkerState(tf.train.Checkpoint(iterator=iterator), ALONE)
    first = state.capture()
    written = sum(payload.data.nbytes for payload in first.payloads())
    assert first.own_bytes < written, "not known before"
    assert state.capture().own_bytes == written
