"""The examples on two workers under `distckpt run`, one killed or told to go; what Keras 3 cannot do there."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import distckpt

EXAMPLES = Path(__file__).parents[2] / "examples"
DOOMED = Path(__file__).with_name("doomed.py")
COUNTED_OTHERWISE = {"save_counter/.ATTRIBUTES/VARIABLE_VALUE", "progress/.ATTRIBUTES/py_state"}
"""Where there was one save more: how many, and sums of metrics that were put together in another order."""
MAIN = ("-m", "distckpt.cli.main", "run", "--workers", "2")


def tensors(directory: Path) -> dict[str, Any]:
    """All of the last checkpoint, as TensorFlow reads them; the object graph's bytes differ between any two saves."""
    path = tf.train.latest_checkpoint(str(directory))
    reader = tf.train.load_checkpoint(path)
    names = reader.get_variable_to_shape_map()
    return {name: reader.get_tensor(name) for name in names if name != "_CHECKPOINTABLE_OBJECT_GRAPH"}


def train(run: Any, example: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Trains an example, undisturbed; returns what it said."""
    done = run(*MAIN, "--", sys.executable, str(EXAMPLES / example), str(directory))
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def train_disturbed(
    run: Any, example: str, directory: Path, saves: int, signum: signal.Signals = signal.SIGKILL
) -> subprocess.CompletedProcess[str]:
    """The same with a signal to worker 1 after some saves, and a restart."""
    mark = f"{directory}-died"
    doomed = (sys.executable, str(DOOMED), signum.name, str(saves), mark, str(EXAMPLES / example), str(directory))
    done = run(*MAIN, "--max-restarts", "1", "--", *doomed)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def undisturbed_fit(
    run: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Of examples/keras_fit.py: its directory, which nobody changes, and what it said."""
    directory = tmp_path_factory.mktemp("fit") / "undisturbed"
    return directory, train(run, "keras_fit.py", directory)


@pytest.fixture
def evaluator() -> Iterator[Any]:
    """Starts examples/evaluator.py on a directory; what that returns waits for its end and returns what it told."""
    running: list[subprocess.Popen[str]] = []

    def start(directory: Path) -> Any:
        directory.mkdir()
        command = [sys.executable, str(EXAMPLES / "evaluator.py"), str(directory)]
        beside = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        running.append(beside)
        assert beside.stdout is not None
        assert beside.stdout.readline() == f"waiting for checkpoints in {directory}\n"

        def told() -> list[str]:
            out, errors = beside.communicate(timeout=60)
            assert beside.returncode == 0, errors[-3000:]
            return out.splitlines()

        return told

    yield start
    for each in running:
        if each.poll() is None:
            each.kill()
        each.communicate()


def assert_same_end(undisturbed: Path, killed: Path) -> None:
    expected, found = tensors(undisturbed), tensors(killed)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_fit_of_tf_keras_on_two_workers_survives_a_killed_worker_bit_for_bit(
    undisturbed_fit: Any, run: Any, tmp_path: Path
) -> None:
    directory, done = undisturbed_fit
    resumed = train_disturbed(run, "keras_fit.py", tmp_path / "killed", saves=5)
    undisturbed, killed = done.stdout, resumed.stdout
    assert "restart 1 of 1" in resumed.stderr
    assert "Epoch 2: going on from batch 7" in killed, "in the middle of an epoch, from the fifth save"
    assert_same_end(directory, tmp_path / "killed")
    ends = [sorted(line for line in text.splitlines() if line.endswith("right")) for text in (undisturbed, killed)]
    assert ends[0] == ends[1], "the history of all epochs, also those before the kill"
    assert len(ends[0]) == 2 * 4
    models = [tf_keras.models.load_model(each / "model.keras") for each in (directory, tmp_path / "killed")]
    for one, other in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(one, other)


def test_fit_on_two_workers_saves_at_a_notice_to_one_of_them_ends_with_143_and_loses_no_batch(
    undisturbed_fit: Any, run: Any, tmp_path: Path
) -> None:
    directory, undisturbed = undisturbed_fit
    told = tmp_path / "told"
    resumed = train_disturbed(
        run, "keras_fit.py", told, saves=2, signum=signal.SIGTERM
    )  # by batch 8 of the first epoch
    committed = set(re.findall(r"ckpt-(\d+) is committed: SIGTERM on worker 1", resumed.stderr))
    assert len(committed) == 1, "both workers, the same"
    epoch, batch = divmod(int(committed.pop()), 10)
    assert f"Epoch {epoch + 1}: going on from batch {batch + 1}" in resumed.stdout
    assert "143" in resumed.stderr
    expected, found = tensors(directory), tensors(told)
    assert found.keys() == expected.keys()
    for name in expected.keys() - COUNTED_OTHERWISE:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    ends = [
        sorted(line for line in each.stdout.splitlines() if line.endswith("right")) for each in (undisturbed, resumed)
    ]
    assert ends[0] == ends[1]
    assert len(ends[0]) == 2 * 4


def test_on_two_workers_the_chief_alone_leaves_the_model_in_every_form(run: Any, tmp_path: Path) -> None:
    script = Path(__file__).with_name("exporting.py")
    done = run(*MAIN, "--", sys.executable, str(script), str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    for worker in range(2):
        assert list((tmp_path / f"temporary-{worker}").iterdir()) == [], (
            "nothing is left by a worker that writes for nobody"
        )
    names = {path.name for path in (tmp_path / "exported").iterdir()}
    assert names == {"model.keras", "model.h5", "model.weights.h5", "model"}
    for training, forms in {"model": ("model.keras", "model"), "model.weights.h5": ("model.h5",)}.items():
        expected = [json.loads((tmp_path / f"{training}-{worker}.json").read_text()) for worker in range(2)]
        assert expected[0] == expected[1]
        for name in forms:
            found = tf_keras.models.load_model(tmp_path / "exported" / name).get_weights()
            assert [array.tolist() for array in found] == expected[0]


def test_a_loop_of_ones_own_trains_a_keras_3_model_on_two_workers_and_an_evaluator_misses_no_checkpoint_of_it(
    run: Any, evaluator: Any, tmp_path: Path
) -> None:
    beside = evaluator(tmp_path / "undisturbed")
    train(run, "custom_loop.py", tmp_path / "undisturbed")
    killed = train_disturbed(run, "custom_loop.py", tmp_path / "killed", saves=3)
    assert "restart 1 of 1" in killed.stderr
    assert "15 of 30 steps are done" in killed.stdout
    assert_same_end(tmp_path / "undisturbed", tmp_path / "killed")
    told = beside()
    assert [line.partition(":")[0] for line in told] == [f"step {step}" for step in range(5, 31, 5)]
    assert len(set(told)) == 6, "each is another"
    afterwards = run(str(EXAMPLES / "evaluator.py"), str(tmp_path / "undisturbed")).stdout.splitlines()[1:]
    assert len(afterwards) >= 3, "those that the job keeps, and what was being evaluated at its last save"
    assert afterwards == told[-len(afterwards) :], "an evaluator after the job tells the same"


def test_keras_3_fit_on_several_workers_is_refused_in_one_sentence(run: Any, tmp_path: Path) -> None:
    cluster = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}
    code = f"import keras, distckpt; distckpt.keras.DistributedCheckpoint({str(tmp_path)!r})"
    done = run("-c", code, TF_CONFIG=json.dumps(cluster))
    assert done.stderr.splitlines()[-1].startswith(
        "distckpt.errors.ConfigurationError: fit of Keras 3 does not work under MultiWorkerMirroredStrategy"
    )
    done = run("-c", "import tf_keras; " + code, TF_CONFIG=json.dumps(cluster))
    assert done.returncode == 0, "with tf_keras loaded it may be meant for that"


def test_importing_the_callback_imports_no_keras_that_tensorflow_does_not(run: Any) -> None:
    loaded = "sorted(m for m in ('keras', 'tf_keras') if m in sys.modules)"
    bare = run("-c", f"import sys, tensorflow; print({loaded})")
    ours = run("-c", f"import sys, distckpt; distckpt.keras.DistributedCheckpoint('unused'); print({loaded})")
    assert ours.returncode == 0, ours.stderr[-2000:]
    assert ours.stdout == bare.stdout


def test_the_module_is_there_without_being_imported() -> None:
    assert distckpt.keras.DistributedCheckpoint.__name__ == "DistributedCheckpoint"
