"""`make bench`: what saving and restoring cost with distckpt, beside stock TensorFlow and what the machine can do.

Real MultiWorkerMirroredStrategy processes under `distckpt run`; see save_worker.py for what is measured. Everything is
measured in turn in one run, in memory (tmpfs: the software's own limit) and on disk. Prints a table; writes JSON, and a
chart of the steps around saves. Only ratios within one run say something: the machine's speed differs from run to run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from distckpt.text import columns

HERE = Path(__file__).parent
CASES = (("layers", 2), ("embedding", 2), ("small", 2), ("frozen", 2), ("spare", 1), ("layers", 4))
MEMORY = "/dev/shm"  # noqa: S108 - a tmpfs, where Linux has one
RUN_DEADLINE_S = 900


def run(place: str, model: str, workers: int, told: argparse.Namespace) -> dict[str, Any]:
    """One job; its files are removed afterwards."""
    directory = tempfile.mkdtemp(prefix="distckpt-bench-", dir=place)
    job = {"directory": directory, "model": model, "mib": told.mib, "rounds": told.rounds}
    command = [sys.executable, "-m", "distckpt.cli.main", "run", "--workers", str(workers), "--"]
    command += [sys.executable, str(HERE / "save_worker.py"), json.dumps(job)]
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_DEADLINE_S,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
            check=False,
        )
    finally:
        shutil.rmtree(directory)
    for line in done.stdout.splitlines():
        _, found, result = line.partition("RESULT ")
        if found:
            return {"place": place, "model": model, "workers": workers, **json.loads(result)}
    raise SystemExit(f"the benchmark of {model} with {workers} workers gave no result:\n{done.stdout[-4000:]}")


def ratios(result: dict[str, Any]) -> dict[str, float]:
    """What the goals are about; above 1 is better than the other side, but for the two of bytes."""
    ended = {way: seen["median_ended_s"] for way, seen in result["ways"].items()}
    held = {way: seen["median_held_s"] for way, seen in result["ways"].items()}
    written = result["bytes_by_worker"]
    return {
        "bytes of a save / bytes of the model": sum(written) / result["model_bytes"],
        "the same, TensorFlow": result["stock_bytes"] / result["model_bytes"],
        "largest share / mean share": max(written) / (sum(written) / len(written)),
        "held: TensorFlow / distckpt": held["TensorFlow"] / held["distckpt, async"],
        "held: TensorFlow async / distckpt": held["TensorFlow, async"] / held["distckpt, async"],
        "to the commit: TensorFlow / distckpt": ended["TensorFlow"] / ended["distckpt, async"],
        "to the commit: bare write + fsync / distckpt": ended["bare write + fsync"] / ended["distckpt, async"],
        "restore: TensorFlow / distckpt": ended["TensorFlow restore"] / ended["distckpt restore"],
        "restore: bare read / distckpt": ended["bare read"] / ended["distckpt restore"],
        "peak memory of a save beside a step / bytes of the model": _memory_of_a_save(result) / result["model_bytes"],
        **_slower_steps(result),
    }


def _memory_of_a_save(result: dict[str, Any]) -> int:
    memory: dict[str, int] = result["memory"]
    return memory["save_and_step_bytes"] - memory["step_bytes"]


def _slower_steps(result: dict[str, Any]) -> dict[str, float]:
    """For each way to save, by its curve: how much longer the steps are, and what a save costs the training in all.

    The first step after a save copies what it updates, and is told apart. Where no other step began while a save was
    written, there is no figure of them.
    """
    found = {}
    for way, curve in result["curves"].items():
        steps = dict(enumerate(curve["step_s"]))
        saved, beside = set(curve["saved_after"]), set(curve["in_flight"])
        after = {number + 1 for number in saved}
        quiet = statistics.median(steps[number] for number in steps.keys() - saved - after - beside)
        writing = [steps[number] for number in beside - after - saved]
        found[f"steps: the first after a save / with none in flight, {way}"] = (
            statistics.median(steps[number] for number in after) / quiet
        )
        if writing:
            found[f"steps: while one is written / with none in flight, {way}"] = statistics.median(writing) / quiet
        lost = sum(steps.values()) - quiet * len(steps)
        found[f"steps: what a save costs the training in all, in steps, {way}"] = lost / quiet / len(saved)
    return found


def report(result: dict[str, Any]) -> str:
    """The part of the table about one job."""
    rows = [("", "FIRST HELD", "MEDIAN HELD", "P99 HELD", "MEDIAN TO THE END", "P99")]
    for way, seen in result["ways"].items():
        keys = ("first_held_s", "median_held_s", "p99_held_s", "median_ended_s", "p99_ended_s")
        rows.append((way, *(f"{seen[key] * 1000:,.1f} ms" for key in keys)))
    told = [(name, f"{ratio:.3f}") for name, ratio in ratios(result).items()]
    lines = [
        f"{result['workers']} workers, {result['model']}, {result['model_bytes'] / 2**20:,.1f} MiB, {result['place']}",
        *(f"  {line}" for line in columns(rows, right=(1, 2, 3, 4, 5))),
        *(f"  {line}" for line in columns(told, right=(1,))),
        f"  index and manifest beside: {result['index_and_manifest_bytes']:,} bytes",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=256, help="size of the models but the small one (256)")
    parser.add_argument("--rounds", type=int, default=21, help="saves of each way, the first told apart (21)")
    parser.add_argument("--cases", nargs="+", default=[f"{m}:{w}" for m, w in CASES], help="MODEL:WORKERS ...")
    parser.add_argument(
        "--places", nargs="+", default=[MEMORY, tempfile.gettempdir()], help="directories to write into"
    )
    parser.add_argument("--json", default=None, help="also write the figures to this file")
    parser.add_argument("--chart", default=None, help="also draw the steps around saves into this PNG file")
    told = parser.parse_args()
    results = []
    for place in told.places:
        for case in told.cases:
            model, _, workers = case.partition(":")
            results.append(run(place, model, int(workers), told))
            sys.stdout.write(report(results[-1]) + "\n\n")
            sys.stdout.flush()
    if told.json:
        Path(told.json).write_text(json.dumps(results, indent=2) + "\n")
    if told.chart:
        from chart import draw  # noqa: PLC0415 - matplotlib is needed for this alone

        draw(results, told.chart)


if __name__ == "__main__":
    main()
