"""The standing of a job on a terminal: drawn in place, with a bar for each worker that writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from distckpt.cli.standing import (
    CHECKPOINTS_SHOWN,
    TROUBLES_SHOWN,
    age,
    doing,
    headline,
    in_flight,
    last_commit,
    speed,
    stall,
    state,
    step,
    trouble,
)
from distckpt.cli.text import printable
from distckpt.observe.picture import Picture, SaveView, WorkerView
from distckpt.text import size

BAR_WIDTH = 24
_COLOURS = {"present": "green", "joining": "yellow", "lost": "red", "left": "dim", "absent": "dim"}


def draw(pictures: Iterable[Picture | str]) -> None:
    """Draws each picture over the one before; a sentence stands where a picture cannot be had."""
    console = Console()
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        for picture in pictures:
            shown = _text(picture, "red") if isinstance(picture, str) else standing(picture, console.height)
            live.update(shown, refresh=True)


def standing(picture: Picture, height: int) -> RenderableType:
    """The picture, in at most `height` lines."""
    return Group(*_parts(picture, height))


def _parts(picture: Picture, height: int) -> Iterator[RenderableType]:
    save = picture.in_flight
    yield _text(headline(picture), "bold" if picture.source == "live" else "bold yellow")
    yield _text(last_commit(picture))
    yield _text(in_flight(save, picture.at), "cyan") if save is not None else Text("no save in flight", "dim")
    if picture.workers:
        room = max(1, height - 8 - min(len(picture.checkpoints), CHECKPOINTS_SHOWN) - TROUBLES_SHOWN)
        yield _workers(picture, save, room)
    if picture.checkpoints:
        yield _checkpoints(picture)
    for each in picture.troubles[-TROUBLES_SHOWN:]:
        yield Text(printable(trouble(each)), "red", no_wrap=True, overflow="ellipsis")


def _workers(picture: Picture, save: SaveView | None, room: int) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for head in ("worker", "step", "steps/s", "last stall"):
        table.add_column(head, justify="right")
    table.add_column("state")
    table.add_column("save in flight" if save is not None else "")
    # Those that need a look first, where not all have room.
    shown = sorted(picture.workers, key=lambda each: (each.presence == "present", each.worker))[:room]
    for each in sorted(shown, key=lambda each: each.worker):
        bar = _bar(each, save)
        table.add_row(
            str(each.worker), step(each), speed(each), stall(each), _text(state(each), _COLOURS[each.presence]), bar
        )
    if len(picture.workers) > len(shown):
        table.add_row("", "", "", "", Text(f"and {len(picture.workers) - len(shown)} more", "dim"), "")
    return table


def _bar(worker: WorkerView, save: SaveView | None) -> RenderableType:
    part = None if save is None else next((each for each in save.parts if each.worker == worker.worker), None)
    if part is None or not part.share_bytes:
        return _text(doing(worker, save), "dim")
    table = Table.grid(padding=(0, 1))
    bar = ProgressBar(part.share_bytes, min(part.written_bytes, part.share_bytes), BAR_WIDTH)
    table.add_row(bar, _text(doing(worker, save)))
    return table


def _checkpoints(picture: Picture) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for head in ("checkpoint", "age", "size", "kept"):
        table.add_column(head, justify="right" if head in ("age", "size") else "left", no_wrap=True)
    for each in picture.checkpoints[-CHECKPOINTS_SHOWN:]:
        kept = "; ".join(each.kept)
        table.add_row(_text(each.name), age(picture.at - each.committed_at), size(each.bytes), _text(kept))
    return table


def _text(words: str, style: str = "") -> Text:
    """What files and workers said: no markup, and nothing that a terminal would obey."""
    return Text(printable(words), style)
