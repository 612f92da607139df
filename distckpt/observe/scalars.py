"""What happens, as scalars for TensorBoard, at the training step that it is of."""

from __future__ import annotations

from collections.abc import Mapping

from distckpt.model import CHIEF
from distckpt.observe import happenings as h


def scalars_of(happening: h.Happening) -> tuple[int, Mapping[str, float]]:
    """The step, and the values by name; none where there is nothing to draw."""
    match happening:
        case h.SaveAgreed(_, step, gather_s):
            return step, {"distckpt/gather_seconds": gather_s}
        case h.SaveCommitting(_, step, write_s):
            return step, {"distckpt/write_seconds": write_s}
        case h.SaveEnded(step=step, outcome="committed", bytes=size_bytes, seconds=seconds, commit_s=commit_s):
            drawn = {"distckpt/save_seconds": seconds, "distckpt/bytes": float(size_bytes)}
            return step, drawn if commit_s is None else {**drawn, "distckpt/commit_seconds": commit_s}
        case h.TrainingHeld(worker, step, seconds) if worker == CHIEF:
            return step, {"distckpt/stall_seconds": seconds}
    return 0, {}
