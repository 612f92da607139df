"""`distckpt.CheckpointManager` under MultiWorkerMirroredStrategy: two real processes, one checkpoint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import portpicker
import pytest
import tensorflow as tf

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DEADLINE_S = 150


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("job")


@pytest.fixture(scope="module")
def seen(folder: Path) -> list[dict[str, Any]]:
    """What each worker saw of all stories."""
    addresses = [f"127.0.0.1:{portpicker.pick_unused_port()}" for _ in range(2)]
    workers = []
    for index in range(2):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        environ = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TF_CONFIG": json.dumps(config),
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "CUDA_VISIBLE_DEVICES": "-1",
        }
        with (folder / f"errors-{index}").open("wb") as errors:
            command = [sys.executable, str(HERE / "workers_manager.py"), str(folder)]
            workers.append(subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=errors))
    try:
        outputs = [worker.communicate(timeout=DEADLINE_S)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    for index, worker in enumerate(workers):
        assert worker.returncode == 0, (folder / f"errors-{index}").read_text()[-4000:]
    return [json.loads(output.splitlines()[-1]) for output in outputs]


def test_both_workers_save_one_copy_and_restore_it(seen: Any, folder: Path) -> None:
    stories = [each["saves_and_restores"] for each in seen]
    for story in stories:
        assert story["begun"] is None
        assert story["checkpoints"] == ["ckpt-1", "ckpt-2", "ckpt-3"]
        # embedding and steps are mirrored, the average is that of the replicas; what differs is the chief's
        assert story["first"] == [1.0, 0.5, 1, 0.0]
        assert story["newest"] == [3.0, 1.5, 3, 0.0]
    written = stories[0]["bytes_by_worker"]
    data = sorted((folder / "plain").glob("ckpt-3.data-*"))
    assert [path.stat().st_size for path in data] == written
    reader = tf.train.load_checkpoint(str(folder / "plain" / "ckpt-3"))
    model_bytes = sum(
        int(tf.TensorShape(shape).num_elements()) * reader.get_variable_to_dtype_map()[name].size
        for name, shape in reader.get_variable_to_shape_map().items()
        if reader.get_variable_to_dtype_map()[name] != tf.string
    )
    graph_bytes = sum(written) - model_bytes
    assert 0 < graph_bytes < 2000, "one copy of the model, and the object graph"
    assert max(written) / (sum(written) / 2) <= 1.05


def test_a_save_behind_the_step_holds_the_values_of_its_step(seen: Any) -> None:
    assert [each["saves_behind_the_step"] for each in seen] == [2, 2]


def test_different_steps_are_refused_on_both_workers(seen: Any) -> None:
    for each in seen:
        kind, text = each["refusals"]["steps"]
        assert kind == "StepMismatch"
        assert "100" in text
        assert "101" in text


def test_a_worker_that_does_not_come_is_named_where_a_collective_would_hang(seen: Any) -> None:
    kind, text = seen[0]["refusals"]["missing"]
    assert kind == "WorkerMissing"
    assert "worker 1" in text
    assert [each["refusals"]["after"] for each in seen] == ["ckpt-300", "ckpt-300"]


def test_different_models_are_refused_and_the_tensor_is_named(seen: Any) -> None:
    for each in seen:
        kind, text = each["refusals"]["models"]
        assert kind == "ModelMismatch"
        assert "odd" in text


def test_a_corrupt_shard_sends_both_workers_to_the_same_checkpoint(seen: Any) -> None:
    assert [each["corruption"] for each in seen] == [{"path": "ckpt-1", "steps_back": 1}] * 2


def test_a_worker_that_holds_another_value_of_a_mirrored_variable_is_found_and_the_variable_is_named(seen: Any) -> None:
    for each in seen:
        found = each["differing"]
        assert [kind for kind, _ in found["refuse"]] == ["ReplicasDiffer"] * 8
        assert all("kernels/1/.ATTRIBUTES/VARIABLE_VALUE" in text for _, text in found["refuse"])
        assert found["refuse: checkpoints"] == 1
        assert (found["warn"], found["warn: checkpoints"]) == ([["", ""]] * 8, 9)
    (told,) = seen[0]["differing"]["told"]
    assert "mirrored variables differ between workers: kernels/1/" in told
    assert "workers 1 and 0" in told or "workers 0 and 1" in told


def test_managers_take_turns_and_preserve_on_both_workers_alike(seen: Any, folder: Path) -> None:
    listed = [["ckpt-1"], ["ckpt-2"], ["ckpt-3"], ["ckpt-4"]]
    assert [each["turns"] for each in seen] == [{"listed": listed, "steps_back": 2}] * 2
    assert sorted(path.stem for path in (folder / "turns").glob("*.index")) == ["ckpt-1", "ckpt-2", "ckpt-3", "ckpt-4"]


def test_a_cooperative_restore_reads_each_byte_on_one_worker_and_gives_all_workers_all_bits(seen: Any) -> None:
    stories = [each["cooperative"] for each in seen]
    for story in stories:
        assert (story["path"], story["alike"], story["text"]) == ("ckpt-1", True, "text")
    assert 8_400_012 <= sum(story["read"] for story in stories) < 8_402_000
    assert max(story["read"] for story in stories) < 6_000_000


def test_a_temporary_directory_of_tensorflows_recipe_is_a_part_of_the_chiefs(seen: Any, folder: Path) -> None:
    for index, each in enumerate(seen):
        assert each["temporary"] == {
            "path": "recipe/ckpt/ckpt-2",
            "in its own": [],
            "directory": True,
            "steps_back": 1,
        }, index
    assert len(list((folder / "recipe" / "ckpt").glob("ckpt-2.data-*"))) == 2


def test_several_managers_of_several_objects_are_each_with_its_own_on_all_workers(seen: Any, folder: Path) -> None:
    for each in seen:
        assert each["side_by_side"] == {"table_back": 1.0, "model_back": 2.0, "part": 0.0}
    assert sorted(path.stem for path in (folder / "table").glob("*.index")) == ["t-2", "t-3"]


def test_tensorflows_preemption_handler_saves_once_and_in_one_place(seen: Any, folder: Path) -> None:
    for each in seen:
        told = each["preempted"]
        assert told["path"].startswith("preempted/ckpt/ckpt-")
        assert (told["trained"], told["restored"], told["one"]) == (True, True, True)
    assert [each["preempted"]["closed"] for each in seen] == ["ManagerClosed"] * 2
    assert not (folder / "preempted" / "workertemp_1").exists()
