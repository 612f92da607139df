"""One worker of the benchmark: saves and restores the same model in each of several ways, in turn.

Run by save.py under `distckpt run`; its argument is one JSON object: directory, model, mib, rounds. The chief prints
one JSON line. Stock TensorFlow's recipe is that of its guide on multi-worker training: every worker saves everything,
the chief into the directory, the others into temporary ones that are thrown away. "bare" is what the machine can do:
the same bytes in the same number of files, written and fsynced, or read into fresh memory, by the same processes.
"""

from __future__ import annotations

import json
import math
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import limits
import numpy as np
import tensorflow as tf

import distckpt

LAYERS = 300
COLUMNS = 128
STEPS_BETWEEN_SAVES = 12
CURVE_SAVES = 8


def variables_of(model: str, mib: int) -> list[Any]:
    """300 variables of 1 to 8 units ("layers"; "spare": TensorFlow has one thread; "frozen": only the first 30 are
    trained), one that is 9/10 of the model and 30 small ones ("embedding"), or 10,000 of 16 numbers each ("small").
    """
    if model == "small":
        return [tf.Variable(tf.random.normal([16])) for _ in range(10_000)]
    units = [9 * 30] + [1] * 30 if model == "embedding" else [1 + index % 8 for index in range(LAYERS)]
    unit_rows = mib * 2**20 // (4 * COLUMNS * sum(units))
    return [tf.Variable(tf.random.normal([unit_rows * unit, COLUMNS])) for unit in units]


class Bench:
    def __init__(self, told: dict[str, Any]) -> None:
        self.spare = told["model"] == "spare"
        if self.spare:  # one worker of them leaves a second core to the writing, as a training on accelerators does
            tf.config.threading.set_intra_op_parallelism_threads(1)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        self.strategy = tf.distribute.MultiWorkerMirroredStrategy()
        resolver = self.strategy.cluster_resolver
        self.worker = resolver.task_id
        self.workers = len(resolver.cluster_spec().as_dict()["worker"])
        with self.strategy.scope():
            self.variables = variables_of(told["model"], told["mib"])
        self.frozen = told["model"] == "frozen"
        trained = self.variables[: LAYERS // 10] if self.frozen else self.variables
        self.model_bytes = sum(4 * variable.shape.num_elements() for variable in self.variables)
        self.checkpoint = tf.train.Checkpoint(variables=self.variables)
        self.directory = Path(told["directory"])
        self.rounds = told["rounds"]
        self.share = np.random.default_rng(self.worker).integers(0, 256, self.model_bytes // self.workers, np.uint8)

        def update() -> None:
            for variable in trained:
                variable.assign_add(tf.ones_like(variable) * 1e-3)

        self.step = tf.function(lambda: self.strategy.run(update))
        self.all_here = tf.function(lambda: self.strategy.run(_all_reduce))

    def meet(self) -> None:
        """All workers have come: what is measured next begins together."""
        float(self.all_here())

    def timed(self, act: Callable[[], Any], finish: Callable[[], Any]) -> tuple[float, float]:
        """(seconds that the training thread was held, seconds to the end)."""
        self.step()
        self.have_memory()
        self.meet()
        begun = time.perf_counter()
        made = act()
        held = time.perf_counter() - begun
        finish()
        ended = time.perf_counter() - begun
        del made  # what was read is given back when the time was taken
        return held, ended

    def have_memory(self) -> None:
        """The machine has as much free memory at hand as all workers save or restore.

        A hypervisor may take back what a virtual machine has not used for seconds, and giving it again takes ten times
        as long as reading a file into it: whichever way comes first would pay for all.
        """
        touched = np.ones(self.model_bytes, np.uint8)
        self.meet()
        del touched

    def run(self) -> dict[str, Any]:
        ours, stock = self.managers()
        times: dict[str, list[tuple[float, float]]] = {}
        for number in range(self.rounds):
            ways = self.ways_to_save(ours, stock, number)
            turn = number % len(ways)  # who comes after the same one each time may pay for what that one left behind
            for way, act, finish in ways[turn:] + ways[:turn]:
                times.setdefault(way, []).append(self.timed(act, finish))
        report = ours.last_save
        for _ in range(max(3, self.rounds // 2)):
            for way, act in self.ways_to_restore(ours, stock):
                times.setdefault(way, []).append(self.timed(act, self.meet))
        beside = self.beside(report.name)
        found = {
            "ways": {way: _summary(seen) for way, seen in times.items()},
            "model_bytes": self.model_bytes,
            "curves": self.curves(ours, stock),
            "memory": self.memory(ours),
            "bytes_by_worker": report.bytes_by_worker,
            "index_and_manifest_bytes": beside,
        }
        ours.close()
        return found

    def managers(self) -> tuple[Any, Any]:
        ours = distckpt.CheckpointManager(
            self.checkpoint,
            str(self.directory / "ours"),
            max_to_keep=1,
            strategy=self.strategy,
            async_save=True,
            options=distckpt.Options(link_unchanged=self.frozen, writer_threads=1 if self.spare else 2),
        )
        name = "stock" if self.worker == 0 else f"stock-temporary-{self.worker}"
        stock = tf.train.CheckpointManager(self.checkpoint, str(self.directory / name), max_to_keep=1)
        ours.restore_or_initialize()
        stock.restore_or_initialize()
        return ours, stock

    def ways_to_save(
        self, ours: Any, stock: Any, number: int
    ) -> list[tuple[str, Callable[[], Any], Callable[[], Any]]]:
        asynchronous = tf.train.CheckpointOptions(experimental_enable_async_checkpoint=True)
        bare = self.directory / f"bare-{self.worker}-{number % 2}"
        return [
            ("distckpt, async", ours.save, ours.wait),
            ("TensorFlow", stock.save, self.meet),
            ("TensorFlow, async", lambda: stock.save(options=asynchronous), lambda: (stock.sync(), self.meet())),
            ("bare write + fsync", lambda: limits.write(bare, self.share), self.meet),
            ("bare memcpy", self.share.copy, self.meet),
        ]

    def ways_to_restore(self, ours: Any, stock: Any) -> list[tuple[str, Callable[[], Any]]]:
        files = [path for path in (self.directory / "ours").iterdir() if ".data-" in path.name]
        return [
            ("distckpt restore", ours.restore),
            ("distckpt restore, cooperative", partial(ours.restore, cooperative=True)),
            ("TensorFlow restore", lambda: self.checkpoint.restore(stock.latest_checkpoint)),
            ("bare read", lambda: limits.read(files)),
        ]

    def curves(self, ours: Any, stock: Any) -> dict[str, dict[str, list[Any]]]:
        asynchronous = tf.train.CheckpointOptions(experimental_enable_async_checkpoint=True)
        found = {
            "distckpt, async": self.curve(ours.save, lambda _: _is_waited_for(ours)),
            "TensorFlow": self.curve(stock.save, lambda _: False),
            "TensorFlow, async": self.curve(
                # Its index is what TensorFlow writes last.
                lambda: stock.save(options=asynchronous),
                lambda path: not Path(f"{path}.index").exists(),
            ),
        }
        ours.wait()
        stock.sync()
        return found

    def curve(self, save: Callable[[], str], is_in_flight: Callable[[str], bool]) -> dict[str, list[Any]]:
        """Seconds of each training step around some saves, the numbers of the steps that were followed by one (it is
        counted in theirs), and of those that began while one was being written.
        """
        durations, saved, beside = [], [], []
        path = ""
        for number in range(CURVE_SAVES * STEPS_BETWEEN_SAVES):
            if path and is_in_flight(path):
                beside.append(number)
            begun = time.perf_counter()
            self.step()
            self.meet()
            if number % STEPS_BETWEEN_SAVES == STEPS_BETWEEN_SAVES // 3:
                path = save()
                saved.append(number)
            durations.append(time.perf_counter() - begun)
        return {"step_s": durations, "saved_after": saved, "in_flight": beside}

    def memory(self, ours: Any) -> dict[str, int]:
        """By how much this process's resident memory grows at most in an asynchronous save with a step beside it, over
        what a step alone takes.
        """
        self.step()
        alone = _peak_growth(self.step)
        beside = _peak_growth(lambda: (ours.save(), self.step(), ours.wait()))
        return {"step_bytes": alone, "save_and_step_bytes": beside}

    def beside(self, name: str) -> int:
        """Bytes of the index and the manifest."""
        files = [path for path in (self.directory / "ours").iterdir() if path.is_file()]
        return sum(path.stat().st_size for path in files if path.name.startswith(name) and ".data-" not in path.name)


def _is_waited_for(manager: Any) -> bool:
    """Whether its save is still in flight."""
    try:
        manager.wait(timeout=0)
    except TimeoutError:
        return True
    return False


def _peak_growth(act: Callable[[], Any]) -> int:
    """Bytes of resident memory at the peak of `act`, over those before it (Linux; proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")
    before = _status_bytes("VmRSS")
    act()
    return _status_bytes("VmHWM") - before


def _status_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def _all_reduce() -> Any:
    return tf.distribute.get_replica_context().all_reduce("SUM", tf.constant(1.0))


def _summary(seen: list[tuple[float, float]]) -> dict[str, float]:
    """The first is told apart. The 99th percentile of 20 is the worst."""
    held, ended = zip(*seen[1:], strict=True)
    return {
        "first_held_s": seen[0][0],
        "median_held_s": statistics.median(held),
        "p99_held_s": sorted(held)[math.ceil(0.99 * len(held)) - 1],
        "median_ended_s": statistics.median(ended),
        "p99_ended_s": sorted(ended)[math.ceil(0.99 * len(ended)) - 1],
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
