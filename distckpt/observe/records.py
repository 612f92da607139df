"""What happens, as records of the logger `distckpt.events`: a sentence for people, fields for programs.

Each record has the attribute `distckpt_event` (the name in `happenings`), and one attribute for each field, with
`distckpt_` before its name. Training steps are not logged: there are too many.
"""

from __future__ import annotations

import logging
from dataclasses import fields

from distckpt.observe import happenings as h
from distckpt.text import size

log = logging.getLogger("distckpt.events")


def record(happening: h.Happening) -> None:
    """Logs it: failures as warnings, the fence as an error, the rest as information."""
    level = _level(happening)
    if isinstance(happening, h.StepEnded) or not log.isEnabledFor(level):
        return
    extra = {f"distckpt_{field.name}": getattr(happening, field.name) for field in fields(happening)}
    log.log(level, "%s", sentence(happening), extra={"distckpt_event": happening.event, **extra})


def _level(happening: h.Happening) -> int:
    match happening:
        case h.ChiefFenced():
            return logging.ERROR
        case h.WishFailed() | h.WorkerLost() | h.ShareGivenUp() | h.ReplicasDiffer() | h.SetAside():
            return logging.WARNING
        case h.SaveEnded(cause=cause) | h.RestoreEnded(cause=cause) if cause:
            return logging.WARNING
    return logging.INFO


def sentence(happening: h.Happening) -> str:  # noqa: C901, PLR0911, PLR0912 - one case for each
    """For people."""
    match happening:
        case h.WorkerJoined(worker, host, pid, again):
            return f"worker {worker} ({host}, pid {pid}) {'is back' if again else 'has joined'}"
        case h.WorkerLost(worker, silent_s):
            return f"worker {worker} is lost; it was last heard of {silent_s:.1f} s ago"
        case h.WorkerLeft(worker, cause):
            return f"worker {worker} has left{f' because of {cause}' if cause else ''}"
        case h.StepAgreed(step, reason, _):
            return f"all save at step {step}: {reason}"
        case h.WishFailed(cause, message):
            return f"a save that was wanted came to nothing: {cause}: {message}"
        case h.SaveOpened(_, step, _):
            return f"the save of step {step} begins"
        case h.SaveAgreed(_, step, gather_s):
            return f"the save of step {step}: all workers are at it after {gather_s:.3f} s"
        case h.ShareWritten(_, step, worker, size_bytes, seconds):
            return f"the save of step {step}: worker {worker} wrote {size(size_bytes)} in {seconds:.3f} s"
        case h.ShareGivenUp(_, step, worker, writers):
            who = ", ".join(map(str, writers))
            return f"the save of step {step}: worker {worker} is done without; {who} write its share"
        case h.ReplicasDiffer(_, step, tensor, worker, other, tensors):
            more = f", and {tensors - 1} more" if tensors > 1 else ""
            return f"the save of step {step}: workers {worker} and {other} hold different values of {tensor}{more}"
        case h.SaveCommitting(_, step, write_s):
            return f"the save of step {step}: all shares are written after {write_s:.3f} s"
        case h.SaveEnded(name=name, outcome="committed", bytes=size_bytes, seconds=seconds):
            return f"{name} is committed: {size(size_bytes)} in {seconds:.3f} s"
        case h.SaveEnded(step=step, cause=cause, message=message, seconds=seconds):
            return f"the save of step {step} failed after {seconds:.3f} s: {cause}: {message}"
        case h.TrainingHeld(worker, step, seconds):
            return f"the save of step {step} held worker {worker} for {seconds:.3f} s"
        case h.RestoreEnded(selector=selector, cause=cause, message=message) if cause:
            return f"the restore of {selector} failed: {cause}: {message}"
        case h.RestoreEnded(_, selector, name, _, _, seconds):
            return f"the restore of {selector}: {name or 'there is no checkpoint'} ({seconds:.3f} s)"
        case h.SetAside(name, reason):
            return f"{name} is corrupt and is set aside: {reason}"
        case h.ChiefFenced(cause, message):
            return f"{cause}: {message}"
        case h.StepEnded(step, seconds):
            return f"step {step} took {seconds:.3f} s"
