"""What is new from one picture of a job to the next, in lines: for those who follow it without a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from distckpt.cli.standing import ended, headline, last_commit, local_clock, trouble
from distckpt.observe.picture import Picture, SaveView


class Following:
    """Remembers what it has told."""

    def __init__(self) -> None:
        self._headline = ""
        self._generation = 0
        self._told: dict[int, str] = {}
        self._troubles: set[tuple[float, str]] = set()

    def news(self, picture: Picture) -> Iterator[str]:
        """The lines to tell, each with the time; at first, how the job stands."""
        clock = local_clock(picture.at)
        first, self._headline = self._headline, headline(picture)
        if picture.generation != self._generation:
            self._generation = picture.generation
            self._told.clear()
        if first != self._headline:
            yield f"{clock}  {self._headline}"
        if not first:
            yield f"{clock}  {last_commit(picture)}"
        for save in picture.saves:
            yield from self._of_save(save, tell=bool(first) or save.ended_at is None)
        for each in picture.troubles:
            key = (round(each.at, 1), each.message)
            if key not in self._troubles and not any(each.message == save.message for save in picture.saves):
                yield trouble(each)
            self._troubles.add(key)

    def _of_save(self, save: SaveView, *, tell: bool) -> Iterator[str]:
        if self._told.get(save.round) == save.phase:
            return
        self._told[save.round] = save.phase
        if not tell:
            return
        if save.ended_at is not None:
            yield f"{local_clock(save.ended_at)}  {ended(save)}"
        else:
            yield f"{local_clock(save.opened_at)}  {save.name}: {save.phase}"
