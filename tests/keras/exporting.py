"""A `fit` of tf_keras on several workers that exports in every form; run by test_workers.py.

Arguments: a directory; what each worker must not leave anything in is its TMPDIR, a folder of its own below it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

DIRECTORY = Path(sys.argv[1])
INDEX = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
tempfile.tempdir = str(DIRECTORY / f"temporary-{INDEX}")
Path(tempfile.tempdir).mkdir()

import tensorflow as tf  # noqa: E402 - after its temporary folder was chosen
import tf_keras  # noqa: E402

from distckpt.keras import DistributedCheckpoint  # noqa: E402

FORMS = (("model.keras", "model"), ("model.h5", "model.weights.h5"))


def data() -> Any:
    inputs = np.random.default_rng(7).random((32, 4)).astype(np.float32)
    batches = tf.data.Dataset.from_tensor_slices((inputs, inputs[:, :1])).batch(8)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.with_options(options)


def main() -> None:
    tf_keras.utils.set_random_seed(7)
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    with strategy.scope():
        # The averages of batch normalization differ between the workers: reading them runs collectives.
        layers = [tf_keras.layers.Dense(3), tf_keras.layers.BatchNormalization(), tf_keras.layers.Dense(1)]
        model = tf_keras.Sequential([tf_keras.layers.Input((4,)), *layers])
        model.compile("adam", "mse")
    for last, best in FORMS:
        callback = DistributedCheckpoint(
            DIRECTORY / f"checkpoints-{last}",
            "loss",
            save_best_only=True,
            export=DIRECTORY / "exported" / last,
            export_best=DIRECTORY / "exported" / best,
        )
        model.fit(data(), epochs=1, callbacks=[callback], verbose=0)
        weights = [array.tolist() for array in model.get_weights()]
        (DIRECTORY / f"{best}-{INDEX}.json").write_text(json.dumps(weights))


if __name__ == "__main__":
    main()
