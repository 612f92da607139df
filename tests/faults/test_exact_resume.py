"""A real job of two workers is killed with SIGKILL in the middle of a shuffled epoch, and goes on as if it were not.

The script is examples/exact_resume.py: MultiWorkerMirroredStrategy, iterators and a random generator of each worker's
own in `worker_state`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import distckpt
from distckpt.launch.job import JobSpec, LocalJob
from distckpt.launch.process import Stream

HERE = Path(__file__).parent
EXAMPLE = HERE.parents[1] / "examples" / "exact_resume.py"
STEPS = 30


class Run:
    """What the workers of one job print until its end: by worker and step, what they saw in it, at each time."""

    def __init__(self, script: Path, directory: Path, restarts: int) -> None:
        environ = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
        command = (sys.executable, str(script), str(directory))
        self.seen: dict[str, set[str]] = {}
        self.begun: list[int] = []
        errors: list[str] = []

        def follow(_worker: int, stream: Stream, line: bytes) -> None:
            text = line.decode(errors="replace").strip()
            if stream != "stdout":
                errors.append(text)
            elif text.endswith("steps are done"):
                self.begun.append(int(text.split()[2]))
            else:
                step, _, what = text.partition(": ")
                self.seen.setdefault(step, set()).add(what)

        code = LocalJob(JobSpec(command, 2, environ, max_restarts=restarts), follow, lambda _: None).run()
        assert code == 0, "\n".join(errors[-40:])


def tensors_of(prefix: Path) -> dict[str, bytes]:
    """What has a value of its own; an iterator is compared by what it gives."""
    reader = tf.train.load_checkpoint(str(prefix))
    names = [name for name in reader.get_variable_to_shape_map() if "save_counter" not in name and name[0] != "_"]
    return {name: np.asarray(reader.get_tensor(name)).tobytes() for name in names if "_STATE" not in name}


@pytest.mark.timeout(300)
def test_a_killed_job_sees_the_same_examples_and_ends_with_the_same_bits(tmp_path: Path) -> None:
    calm = Run(EXAMPLE, tmp_path / "calm", 0)
    killed = Run(HERE / "doomed_resume.py", tmp_path / "killed", 1)
    assert calm.begun == [0, 0]
    assert killed.begun == [0, 0, 16, 16]
    assert len(calm.seen) == 2 * STEPS
    assert killed.seen == calm.seen, "the same examples, random numbers and losses, also where steps were done twice"
    for end in ("ckpt-30", "ckpt-30.worker-00000-of-00002", "ckpt-30.worker-00001-of-00002"):
        found = tensors_of(tmp_path / "killed" / end)
        assert found
        assert found == tensors_of(tmp_path / "calm" / end)
    assert distckpt.Catalog(tmp_path / "killed").verify(STEPS) == []
