"""How a job stands, in lines of text: what `status` prints, and `watch` where no terminal is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from distckpt.observe.picture import CheckpointView, PartView, Picture, SaveView, TroubleView, WorkerView
from distckpt.text import columns, size

CHECKPOINTS_SHOWN = 8
TROUBLES_SHOWN = 5
_MINUTE_S = 60
_HOUR_S = 3600
_DAY_S = 86_400


def lines(picture: Picture) -> Iterator[str]:
    """The whole standing."""
    yield headline(picture)
    yield last_commit(picture)
    save = picture.in_flight
    if save is not None:
        yield in_flight(save, picture.at)
    if picture.workers:
        yield ""
        yield from _workers(picture, save)
    if picture.checkpoints:
        yield ""
        yield from _checkpoints(picture)
    if picture.troubles:
        yield ""
        yield from _troubles(picture.troubles)


def headline(picture: Picture) -> str:
    """What job it is, and whether it runs."""
    if not picture.generation:
        return f"{picture.directory}: written by TensorFlow without distckpt"
    job = f"job {picture.job}, generation {picture.generation}"
    if picture.source == "journal":
        return f"{job}: not running, or out of reach: {picture.note}"
    there = sum(worker.presence == "present" for worker in picture.workers)
    return f"{job}: {there} of {picture.world_size} workers are there"


def last_commit(picture: Picture) -> str:
    if not picture.checkpoints:
        return "nothing is committed yet"
    newest = picture.checkpoints[-1]
    return f"last commit: {newest.name}, {size(newest.bytes)}, {age(picture.at - newest.committed_at)} ago"


def in_flight(save: SaveView, at: float) -> str:
    """The save in flight, in one line."""
    because = f" ({save.reason})" if save.reason else ""
    text = f"in flight: {save.name}{because}: {save.phase}, begun {age(at - save.opened_at)} ago"
    written, whole = sum(part.written_bytes for part in save.parts), sum(part.share_bytes or 0 for part in save.parts)
    return f"{text}, {size(written)} of {size(whole)} written" if whole else text


def ended(save: SaveView) -> str:
    """A save that is over, in one line."""
    took = "" if save.ended_at is None else f" after {age(save.ended_at - save.opened_at)}"
    if save.phase == "committed":
        return f"{save.name} is committed{took}, {size(save.bytes)}"
    return f"the save of step {save.step} failed{took}: {save.cause}: {save.message}"


def age(seconds: float) -> str:
    """As `0.4 s`, `42 s`, `3 min`, `5 h 10 min`, `2 d 3 h`."""
    if seconds < _MINUTE_S:
        return f"{max(0.0, seconds):.1f} s" if seconds < 10 else f"{seconds:.0f} s"  # noqa: PLR2004 - where tenths matter
    if seconds < _HOUR_S:
        return f"{seconds // _MINUTE_S:.0f} min"
    if seconds < _DAY_S:
        return f"{seconds // _HOUR_S:.0f} h {seconds % _HOUR_S // _MINUTE_S:.0f} min"
    return f"{seconds // _DAY_S:.0f} d {seconds % _DAY_S // _HOUR_S:.0f} h"


def state(worker: WorkerView) -> str:
    return worker.presence if worker.presence != "lost" else f"lost for {age(worker.heard_s or 0.0)}"


def step(worker: WorkerView) -> str:
    return str(worker.step) if worker.step >= 0 else "-"


def speed(worker: WorkerView) -> str:
    return "-" if worker.steps_per_s is None else f"{worker.steps_per_s:.3g}"


def stall(worker: WorkerView) -> str:
    return "-" if worker.stall_s is None else f"{worker.stall_s * 1000:.3g} ms"


def doing(worker: WorkerView, save: SaveView | None) -> str:
    """What a worker does in the save in flight; nothing where there is none."""
    if save is None:
        return ""
    part = next((part for part in save.parts if part.worker == worker.worker), None)
    if part is None:
        return "not there yet"
    if part.given_up_at is not None:
        return "done without: others write its share"
    if save.agreed_at is None:
        return "waits for the others"
    return progress(part)


def progress(part: PartView) -> str:
    if part.written_at is not None:
        return f"wrote {size(part.written_bytes)}"
    if part.share_bytes is None:
        return "begins to write"
    return f"{size(part.written_bytes)} of {size(part.share_bytes)}"


def local_clock(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%H:%M:%S")


def _workers(picture: Picture, save: SaveView | None) -> list[str]:
    heads = ["WORKER", "STATE", "STEP", "STEPS/S", "LAST STALL", "WHERE", "SAVE IN FLIGHT" if save else ""]
    rows = [
        [
            str(each.worker),
            state(each),
            step(each),
            speed(each),
            stall(each),
            f"{each.address}, pid {each.pid}" if each.pid else "",
            doing(each, save),
        ]
        for each in picture.workers
    ]
    return columns([heads, *rows], right=(0, 2, 3, 4))


def _checkpoints(picture: Picture) -> list[str]:
    heads = ["CHECKPOINT", "AGE", "SIZE", "METRICS", "KEPT"]
    shown = picture.checkpoints[-CHECKPOINTS_SHOWN:]
    more = len(picture.checkpoints) - len(shown)
    rows = columns([heads, *(_checkpoint(each, picture.at) for each in shown)], right=(1, 2))
    return [*rows, f"and {more} before these"] if more else rows


def _checkpoint(checkpoint: CheckpointView, at: float) -> list[str]:
    metrics = (f"{key}={'nan' if value is None else format(value, 'g')}" for key, value in checkpoint.metrics.items())
    return [
        checkpoint.name,
        age(at - checkpoint.committed_at),
        size(checkpoint.bytes),
        " ".join(metrics),
        "; ".join(checkpoint.kept),
    ]


def _troubles(troubles: tuple[TroubleView, ...]) -> list[str]:
    return [trouble(each) for each in troubles[-TROUBLES_SHOWN:]]


def trouble(each: TroubleView) -> str:
    return f"{local_clock(each.at)}  {each.cause}: {each.message}"
