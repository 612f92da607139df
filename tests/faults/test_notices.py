"""A real TensorFlow job under the launcher whose workers are told to go with SIGTERM, again and again.

After each notice all workers save at one step and end with 143; the next start goes on from exactly that step, and the
job ends with the weights of one that nobody disturbed, bit for bit. DISTCKPT_NOTICES makes it longer.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest
import tensorflow as tf

import distckpt
from distckpt.launch.job import JobSpec, LocalJob
from distckpt.launch.process import Stream

NOTICES = int(os.environ.get("DISTCKPT_NOTICES", "2"))
SCRIPT = Path(__file__).with_name("notices_training.py")
LINES_BEFORE_MAX = 20
STEPS = (NOTICES + 1) * LINES_BEFORE_MAX
"""Two lines a step, and a step or two until all have agreed: no start comes to the end before its notice."""


class Noticed:
    """Follows a training line by line; some lines after each start both workers get SIGTERM, and at last only one."""

    def __init__(self, directory: Path, notices: int) -> None:
        command = (sys.executable, str(SCRIPT), str(directory), str(STEPS))
        environ = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
        spec = JobSpec(command, 2, environ, max_restarts=1, grace_s=30.0)
        self.job = LocalJob(spec, self._follow, self._hear)
        self.errors: list[str] = []
        self.launcher: list[str] = []
        self.begun: list[dict[int, int]] = []
        """For each start, where each worker went on from."""
        self.ended: list[dict[int, int]] = []
        """For each start, the last step of each worker."""
        self._random = Random(1)
        self._notices_left = notices
        self._lines_left = self._draw()

    def _draw(self) -> int:
        return self._random.randint(1, LINES_BEFORE_MAX)

    def _hear(self, text: str) -> None:
        self.launcher.append(text)

    def _follow(self, worker: int, stream: Stream, line: bytes) -> None:
        if stream != "stdout":
            self.errors.append(line.decode(errors="replace"))
            return
        event = json.loads(line)
        if event["event"] == "from":
            if not self.begun or worker in self.begun[-1]:
                self.begun.append({})
                self.ended.append({})
                self._lines_left = self._draw()
            self.begun[-1][worker] = event["step"]
            return
        self.ended[-1][worker] = event["step"]
        self._lines_left -= 1
        if self._lines_left == 0 and self._notices_left:
            self._notices_left -= 1
            for told in (0, 1) if self._notices_left else (1,):
                self.job._alive[told].send(signal.SIGTERM)


def tensors_of(directory: Path) -> dict[str, bytes]:
    """The newest checkpoint's, as plain TensorFlow reads them; what counts saves, not steps, is left out."""
    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(directory)))
    names = [name for name in reader.get_variable_to_shape_map() if "save_counter" not in name and name[0] != "_"]
    return {name: np.asarray(reader.get_tensor(name)).tobytes() for name in names}


@pytest.mark.timeout(120 + 60 * NOTICES)
def test_no_step_is_lost_to_a_notice_and_each_restart_goes_on_from_the_agreed_one(tmp_path: Path) -> None:
    calm, noticed = Noticed(tmp_path / "calm", 0), Noticed(tmp_path / "noticed", NOTICES)
    assert calm.job.run() == 0, "\n".join(calm.errors[-40:])
    assert noticed.job.run() == 0, "\n".join(noticed.errors[-40:])
    assert len(noticed.begun) == NOTICES + 1
    for before, after in zip(noticed.ended, noticed.begun[1:], strict=False):
        assert before[0] == before[1], "both ended at the step that was agreed on"
        assert after == before, "and went on from there"
    assert sum("143" in text for text in noticed.launcher) >= NOTICES
    assert tensors_of(tmp_path / "noticed") == tensors_of(tmp_path / "calm")
    catalog = distckpt.Catalog(tmp_path / "noticed")
    assert [each.step for each in catalog.checkpoints] == [*(start[0] for start in noticed.begun[1:]), STEPS]
