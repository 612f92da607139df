"""`make bench`: what a save costs with distckpt and with stock TensorFlow beside it, in one run on this machine.

Real MultiWorkerMirroredStrategy processes under `distckpt run`; see save_worker.py for what is measured. Prints a table
and writes JSON. Only ratios within one run say something: the machine's speed differs from run to run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from distckpt.text import columns

HERE = Path(__file__).parent
CASES = (("layers", 2), ("embedding", 2), ("layers", 4), ("embedding", 4))
RUN_DEADLINE_S = 600


def run(model: str, workers: int, told: argparse.Namespace) -> dict[str, Any]:
    """One job; its files are removed afterwards."""
    directory = tempfile.mkdtemp(prefix="distckpt-bench-", dir=told.directory)
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
            return {"model": model, "workers": workers, **json.loads(result)}
    raise SystemExit(f"the benchmark of {model} with {workers} workers gave no result:\n{done.stdout[-4000:]}")


def report(result: dict[str, Any]) -> str:
    """The part of the table about one job."""
    written = result["bytes_by_worker"]
    model_bytes = result["model_bytes"]
    shares = max(written) / (sum(written) / len(written))
    rows = [("", "FIRST HELD", "MEDIAN HELD", "WORST HELD", "MEDIAN TO THE END")]
    for way, seen in result["ways"].items():
        keys = ("first_held_s", "median_held_s", "worst_held_s", "median_ended_s")
        rows.append((way, *(f"{seen[key] * 1000:,.1f} ms" for key in keys)))
    ratio, stock_ratio = sum(written) / model_bytes, result["stock_bytes"] / model_bytes
    lines = [
        f"{result['workers']} workers, {result['model']}: {model_bytes / 2**20:,.0f} MiB",
        *(f"  {line}" for line in columns(rows, right=(1, 2, 3, 4))),
        f"  bytes of a save / bytes of the model: distckpt {ratio:.4f}, TensorFlow {stock_ratio:.2f}",
        f"  beside them, index and manifest: {result['index_and_manifest_bytes']:,} bytes",
        f"  largest share / mean share: {shares:.4f}",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=256, help="size of the model (256)")
    parser.add_argument("--rounds", type=int, default=21, help="saves of each way, the first told apart (21)")
    parser.add_argument("--directory", default=None, help="where to write; default: the system's temporary directory")
    parser.add_argument("--json", default=None, help="also write the figures to this file")
    told = parser.parse_args()
    results = []
    for model, workers in CASES:
        results.append(run(model, workers, told))
        sys.stdout.write(report(results[-1]) + "\n\n")
        sys.stdout.flush()
    if told.json:
        Path(told.json).write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
