"""Draws the time of each training step around saves: the dip is what people want to see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt


def draw(results: Sequence[dict[str, Any]], path: str) -> None:
    """One panel for each job, one line for each way to save."""
    figure, panels = plt.subplots(len(results), 1, figsize=(9, 2.6 * len(results)), squeeze=False, layout="constrained")
    for panel, result in zip(panels[:, 0], results, strict=True):
        for way, curve in result["curves"].items():
            milliseconds = [1000 * seconds for seconds in curve["step_s"]]
            panel.plot(milliseconds, label=way, linewidth=1.2)
            saved_at = [milliseconds[number] for number in curve["saved_after"]]
            panel.plot(curve["saved_after"], saved_at, "v", color=panel.lines[-1].get_color(), markersize=6)
        megabytes = result["model_bytes"] / 2**20
        panel.set_title(f"{result['workers']} workers, {result['model']}, {megabytes:,.0f} MiB, {result['place']}")
        panel.set_ylabel("step, ms (log)")
        panel.set_yscale("log")
    panels[-1, 0].set_xlabel("training step; a triangle: a save at its end, counted in its time")
    panels[0, 0].legend(loc="upper right")
    figure.savefig(path, dpi=110)
