"""A fine-tuning, nine tenths of it frozen: `Options(link_unchanged=True)` writes a tenth, and TensorFlow reads it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

import distckpt

SAVES = 6


class FineTuning:
    """A backbone that stands still, and a head with the optimizer's slots, trained by gradients: 10 MB, 1 of it new."""

    def __init__(self) -> None:
        rng = tf.random.Generator.from_seed(1)
        self.backbone = [tf.Variable(rng.normal([500, 450])) for _ in range(10)]
        self.head = tf.Variable(rng.normal([450, 180]))
        self.slots = [tf.Variable(tf.zeros([450, 180])) for _ in range(2)]
        self.step = tf.Variable(0, dtype=tf.int64)
        self.variables = [*self.backbone, self.head, *self.slots, self.step]
        self.checkpoint = tf.train.Checkpoint(backbone=self.backbone, head=self.head, slots=self.slots, step=self.step)
        self.bytes = sum(int(tf.size(each)) * each.dtype.size for each in self.variables)

    @tf.function
    def train(self) -> None:
        inputs = tf.ones([4, 500])
        with tf.GradientTape() as tape:
            hidden = tf.add_n([tf.linalg.matmul(inputs, each) for each in self.backbone])
            loss = tf.reduce_mean(tf.square(tf.linalg.matmul(hidden, self.head) - 1.0))
        gradient = tape.gradient(loss, self.head)
        mean, square = self.slots
        mean.assign(0.9 * mean + 0.1 * gradient)
        square.assign(0.99 * square + 0.01 * gradient**2)
        self.head.assign_sub(0.01 * mean / (tf.sqrt(square) + 1e-8))
        self.step.assign_add(1)

    def values(self) -> list[bytes]:
        return [each.numpy().tobytes() for each in self.variables]


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of each write(2) that the saves make: data, index, manifest, journal, state file."""
    sizes: list[int] = []
    real = os.pwrite

    def counted(fd: int, data: Any, offset: int) -> int:
        sizes.append(real(fd, data, offset))
        return sizes[-1]

    monkeypatch.setattr(os, "pwrite", counted)
    return sizes


def test_a_fine_tuning_writes_a_tenth_and_tensorflow_restores_it_bit_for_bit(tmp_path: Path, writes: list[int]) -> None:
    training, directory = FineTuning(), tmp_path / "checkpoints"
    options = distckpt.Options(link_unchanged=True)
    written, saved = [], {}
    with distckpt.CheckpointManager(training.checkpoint, str(directory), 2, options=options) as manager:
        for _ in range(SAVES):
            training.train()
            del writes[:]
            path = manager.save()
            written.append(sum(writes) / training.bytes)
            saved[path] = training.values()
        assert manager.checkpoints == list(saved)[-2:]
    assert min(written[:2]) >= 1.0
    assert max(written[2:]) <= 0.11
    for path in list(saved)[-2:]:
        restored = FineTuning()
        restored.checkpoint.restore(path).assert_consumed()
        assert restored.values() == saved[path]
    fresh = FineTuning()
    with distckpt.CheckpointManager(fresh.checkpoint, str(directory), 2, options=options) as manager:
        assert manager.restore_or_initialize() == list(saved)[-1]
        assert fresh.values() == list(saved.values())[-1]
    assert sum(1 for each in directory.glob("*.data-*") if each.stat().st_nlink > 2) == 2, "one file, in both"
