"""One worker of the save benchmark: saves the same model with distckpt and with stock TensorFlow, in turn.

Run by save.py under `distckpt run`; its argument is one JSON object: directory, model, mib, rounds. The chief prints
one JSON line. Stock TensorFlow's recipe is that of its guide on multi-worker training: every worker saves everything,
the chief into the directory, the others into temporary ones that are thrown away.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

import distckpt

LAYERS = 300
COLUMNS = 128


def variables_of(model: str, mib: int) -> list[Any]:
    """300 variables of 1 to 8 units ("layers"), or one that is 9/10 of the model and 30 small ones ("embedding")."""
    units = [9 * 30] + [1] * 30 if model == "embedding" else [1 + index % 8 for index in range(LAYERS)]
    unit_rows = mib * 2**20 // (4 * COLUMNS * sum(units))
    return [tf.Variable(tf.random.normal([unit_rows * unit, COLUMNS])) for unit in units]


class Bench:
    def __init__(self, told: dict[str, Any]) -> None:
        self.strategy = tf.distribute.MultiWorkerMirroredStrategy()
        resolver = self.strategy.cluster_resolver
        self.worker = resolver.task_id
        with self.strategy.scope():
            self.variables = variables_of(told["model"], told["mib"])
        self.checkpoint = tf.train.Checkpoint(variables=self.variables)
        self.directory = Path(told["directory"])
        self.rounds = told["rounds"]

        def update() -> None:
            for variable in self.variables:
                variable.assign_add(tf.ones_like(variable) * 1e-3)

        self.step = tf.function(lambda: self.strategy.run(update))

    def meet(self) -> None:
        """A step, and all workers have come: what is measured next begins together."""
        self.step()

        def together() -> Any:
            return tf.distribute.get_replica_context().all_reduce("SUM", tf.constant(1.0))

        float(self.strategy.run(together))

    def stock(self) -> Any:
        name = "stock" if self.worker == 0 else f"stock-temporary-{self.worker}"
        return tf.train.CheckpointManager(self.checkpoint, str(self.directory / name), max_to_keep=1)

    def timed(self, save: Callable[[], Any], finish: Callable[[], Any]) -> tuple[float, float]:
        """(seconds that the training thread was held, seconds to the end)."""
        self.meet()
        begun = time.perf_counter()
        save()
        held = time.perf_counter() - begun
        finish()
        return held, time.perf_counter() - begun

    def run(self) -> dict[str, Any]:
        ours, stock = self.manager(), self.stock()
        ours.restore_or_initialize()
        stock.restore_or_initialize()
        asynchronous = tf.train.CheckpointOptions(experimental_enable_async_checkpoint=True)
        ways: dict[str, Callable[[], tuple[float, float]]] = {
            "distckpt, async": lambda: self.timed(ours.save, ours.wait),
            "TensorFlow": lambda: self.timed(stock.save, lambda: None),
            "TensorFlow, async": lambda: self.timed(lambda: stock.save(options=asynchronous), stock.sync),
        }
        times: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for _ in range(self.rounds):
            for way, measure in ways.items():
                times[way].append(measure())
        report = ours.last_save
        ours.close()
        written = report.bytes_by_worker
        return {
            "ways": {way: _summary(seen) for way, seen in times.items()},
            "bytes_by_worker": written,
            "model_bytes": sum(4 * variable.shape.num_elements() for variable in self.variables),
            "index_and_manifest_bytes": sum(
                path.stat().st_size
                for path in (self.directory / "ours").iterdir()
                if path.is_file() and path.name.startswith(report.name) and ".data-" not in path.name
            ),
        }

    def manager(self) -> Any:
        return distckpt.CheckpointManager(
            self.checkpoint, str(self.directory / "ours"), max_to_keep=1, strategy=self.strategy, async_save=True
        )


def _summary(seen: list[tuple[float, float]]) -> dict[str, float]:
    held, ended = zip(*seen[1:], strict=True)
    return {
        "first_held_s": seen[0][0],
        "median_held_s": statistics.median(held),
        "worst_held_s": max(held),
        "median_ended_s": statistics.median(ended),
    }


def main() -> None:
    told = json.loads(sys.argv[1])
    bench = Bench(told)
    found = bench.run()
    bench.meet()
    if bench.worker == 0:
        stock_bytes = sum(path.stat().st_size for path in bench.directory.glob("stock*/*") if ".data-" in path.name)
        sys.stdout.write("RESULT " + json.dumps({**found, "stock_bytes": stock_bytes}) + "\n")
    bench.meet()
    if bench.worker != 0:
        shutil.rmtree(bench.directory / f"stock-temporary-{bench.worker}")


if __name__ == "__main__":
    main()
