"""Real TensorFlow jobs of 2, 3 and 4 workers that are killed and frozen at random moments, saving all the time.

Each must end with the weights of an undisturbed run, bit for bit, never fall behind a commit that it was told of, and
keep what it was told of whole. DISTCKPT_TORTURE_ROUNDS disturbances, in jobs of eight; none begins once
DISTCKPT_TORTURE_MINUTES are over. DISTCKPT_TORTURE_SEED is the first job's seed; with DISTCKPT_TORTURE_ROUNDS=8 it
replays the job whose story a failure prints: the same disturbances, of the same workers, after as many lines.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest
import tensorflow as tf
from tormented import KINDS, STEPS_A_ROUND, Tormented

import distckpt

ROUNDS = int(os.environ.get("DISTCKPT_TORTURE_ROUNDS", "4"))
MINUTES = float(os.environ.get("DISTCKPT_TORTURE_MINUTES", "inf"))
FIRST_SEED = int(os.environ.get("DISTCKPT_TORTURE_SEED", "1"))
ROUNDS_A_JOB = min(ROUNDS, len(KINDS))
SEEDS = range(FIRST_SEED, FIRST_SEED + -(-ROUNDS // ROUNDS_A_JOB))
STEPS = 3 * ((ROUNDS_A_JOB + 1) * (STEPS_A_ROUND + 5) // 3)
"""So many that the training is not over before the last disturbance."""
BEGAN = time.monotonic()


def tensors_of(directory: Path) -> dict[str, bytes]:
    """The newest checkpoint's, as plain TensorFlow reads them; what counts saves, not steps, is left out."""
    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(directory)))
    names = [name for name in reader.get_variable_to_shape_map() if "save_counter" not in name and name[0] != "_"]
    return {name: np.asarray(reader.get_tensor(name)).tobytes() for name in names}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], dict[str, bytes]]:
    """What so many workers end with when nobody disturbs them."""
    known: dict[int, dict[str, bytes]] = {}

    def train(workers: int) -> dict[str, bytes]:
        if workers not in known:
            directory = tmp_path_factory.mktemp("calm")
            Tormented(directory, workers, STEPS, []).run()
            known[workers] = tensors_of(directory)
        return known[workers]

    return train


@pytest.mark.timeout(240 + 90 * ROUNDS_A_JOB)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_job_that_is_killed_and_frozen_again_and_again_ends_with_the_weights_of_an_undisturbed_one(
    seed: int, tmp_path: Path, undisturbed: Callable[[int], dict[str, bytes]]
) -> None:
    if time.monotonic() - BEGAN > MINUTES * 60:
        pytest.skip(f"{MINUTES:g} minutes are over")
    workers = 2 + (seed - 1) % 3
    expected = undisturbed(workers)
    kinds = list(KINDS[:ROUNDS_A_JOB])
    Random(seed).shuffle(kinds)
    tormented = Tormented(tmp_path, workers, STEPS, kinds, seed)
    tormented.run()
    assert tensors_of(tmp_path) == expected
    live = [each.step for each in distckpt.Catalog(tmp_path).checkpoints]
    assert live == [STEPS - 6, STEPS - 3, STEPS]
    assert tormented.looked > len(live), "and on the way"
