"""What a save takes of the memory is stated, and held: measured as the peak of a real process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from distckpt.errors import ConfigurationError
from distckpt.options import STAGING_BYTES, Options

SCRIPT = Path(__file__).with_name("memory_of_saves.py")
DEADLINE_S = 120.0


def test_a_save_keeps_its_budget_of_memory(tmp_path: Path) -> None:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["model"] > 2 * STAGING_BYTES, "the two cannot be taken for each other"
    assert found["waiting"] <= STAGING_BYTES, "the training waits, so nothing is copied"
    assert found["going on"] <= found["model"] + STAGING_BYTES
    assert found["going on"] >= found["model"] / 2, "else nothing was measured; the kernel may page out what is idle"


def test_a_budget_that_cannot_be_kept_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=f"memory_budget={STAGING_BYTES - 1}"):
        Options(memory_budget=STAGING_BYTES - 1)


def test_the_training_goes_on_where_all_that_is_saved_fits() -> None:
    assert Options().affords(1 << 60)
    assert Options(memory_budget=3 * STAGING_BYTES).affords(2 * STAGING_BYTES)
    assert not Options(memory_budget=3 * STAGING_BYTES).affords(2 * STAGING_BYTES + 1)
