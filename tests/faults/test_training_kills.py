"""A real TensorFlow job whose workers, the chief too, are killed with SIGKILL at random moments, saving all the time.

It must end with the weights of an undisturbed run, bit for bit, and never fall behind a commit that it was told of.
DISTCKPT_TORTURE_KILLS and DISTCKPT_TORTURE_SEED make it longer, or another one.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest
import tensorflow as tf

import distckpt
from distckpt.launch.job import JobSpec, LocalJob
from distckpt.launch.process import Stream

KILLS = int(os.environ.get("DISTCKPT_TORTURE_KILLS", "3"))
SEED = int(os.environ.get("DISTCKPT_TORTURE_SEED", "1"))
STEPS, EVERY = 150, 3
LINES_BEFORE_A_KILL_MAX = 2 * STEPS // (KILLS + 2) - 2
"""Each of the two workers prints a line for each step: so few that the training is not over before the last kill."""


class Tortured:
    """Follows a training line by line; kills a worker after a drawn number of lines of each of the first starts."""

    def __init__(self, directory: Path, kills: int) -> None:
        command = (sys.executable, "-m", "distckpt.launch.demo_training", str(directory), str(STEPS), str(EVERY))
        environ = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
        self.job = LocalJob(JobSpec(command, 2, environ, max_restarts=kills), self._follow, lambda _: None)
        self.problems: list[str] = []
        self.errors: list[str] = []
        self.resumed: list[int] = []
        self._random = Random(SEED)
        self.kills_left = kills
        self._acknowledged = 0
        self._lines_left = self._draw()

    def _draw(self) -> int:
        return self._random.randint(1, LINES_BEFORE_A_KILL_MAX)

    def _follow(self, _worker: int, stream: Stream, line: bytes) -> None:
        if stream != "stdout":
            self.errors.append(line.decode(errors="replace"))
            return
        event = json.loads(line)
        if event["event"] == "resumed":
            self.resumed.append(event["step"])
            if event["step"] < self._acknowledged:
                self.problems.append(f"step {self._acknowledged} was committed, and it went on from {event['step']}")
        elif event["event"] == "saved":
            self._acknowledged = max(self._acknowledged, event["step"])
        elif event["event"] == "step":
            self._lines_left -= 1
            if self._lines_left == 0 and self.kills_left:
                self.kills_left -= 1
                self._lines_left = self._draw()
                self.job.kill(self._random.randrange(2))


def tensors_of(directory: Path) -> dict[str, bytes]:
    """The newest checkpoint's, as plain TensorFlow reads them; what counts saves, not steps, is left out."""
    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(directory)))
    names = [name for name in reader.get_variable_to_shape_map() if "save_counter" not in name and name[0] != "_"]
    return {name: np.asarray(reader.get_tensor(name)).tobytes() for name in names}


@pytest.mark.timeout(120 + 60 * KILLS)
def test_a_job_that_is_killed_again_and_again_ends_with_the_weights_of_an_undisturbed_one(tmp_path: Path) -> None:
    calm, tortured = Tortured(tmp_path / "calm", 0), Tortured(tmp_path / "tortured", KILLS)
    assert calm.job.run() == 0, "\n".join(calm.errors[-40:])
    assert tortured.job.run() == 0, "\n".join(tortured.errors[-40:])
    assert tortured.kills_left == 0
    assert tortured.problems == []
    assert tensors_of(tmp_path / "tortured") == tensors_of(tmp_path / "calm")
    catalog = distckpt.Catalog(tmp_path / "tortured")
    assert catalog.latest is not None
    assert catalog.latest.step == STEPS
    assert {each.step: catalog.verify(each.step) for each in catalog.checkpoints} == {144: [], 147: [], 150: []}
    assert len(tortured.resumed) >= 2, "no start resumed: nothing was tested"
