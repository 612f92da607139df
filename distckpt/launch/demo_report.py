"""How the demo puts what happened: sentences for events, and the table of checkpoints. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from distckpt.launch.demo_events import Saved
from distckpt.model import CHIEF
from distckpt.text import columns, size

STEPS_BETWEEN_LINES = 40


def sentence(worker: int, event: Mapping[str, Any]) -> str | None:
    """What to tell of an event; None where it is not worth a line. Of what all do, the chief's word is enough."""
    match event:
        case {"event": "started"}:
            return f"worker {worker} has joined the cluster"
        case {"event": "resumed", "step": step}:
            return f"worker {worker} goes on from step {step}"
        case {"event": "log", "level": level, "text": text}:
            return f"worker {worker}: {level.lower()}: {text}"
    return _chiefs_sentence(event) if worker == CHIEF else None


def _chiefs_sentence(event: Mapping[str, Any]) -> str | None:
    match event:
        case {"event": "step", "step": step, "loss": loss} if step % STEPS_BETWEEN_LINES == 0:
            return f"step {step}: loss {loss:.4f}"
        case {"event": "saved", "step": step, "bytes": saved, "blocking_s": waited_s, "commit_s": commit_s}:
            return f"step {step} committed: {size(saved)} in {_ms(commit_s)}; the training waited {_ms(waited_s)}"
        case {"event": "done", "step": step, "accuracy": accuracy}:
            return f"done after step {step}: {accuracy:.2%} of the held-out digits are read right"
    return None


def table(saved: Sequence[Saved]) -> list[str]:
    """A line per checkpoint, below the names of the columns. Bytes are exact, times in milliseconds."""
    workers = max((len(each.bytes_by_worker) for each in saved), default=0)
    by_worker = [f"BY WORKER {worker}" for worker in range(workers)]
    heads = ["STEP", "BYTES", *by_worker, "TRAINING WAITED", "COMMITTED AFTER"]
    return columns([heads, *(_row(each, workers) for each in saved)], right=range(len(heads)))


def _row(saved: Saved, workers: int) -> list[str]:
    shares = [f"{share:,}" for share in saved.bytes_by_worker]
    shares += [""] * (workers - len(shares))
    return [str(saved.step), f"{saved.bytes:,}", *shares, _ms(saved.blocking_s), _ms(saved.commit_s)]


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"
