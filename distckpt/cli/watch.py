"""`distckpt watch DIR`: follows a job, through its restarts too, until Ctrl-C.

On a terminal the whole standing, drawn anew every second, with a bar for each worker that writes. Elsewhere a line for
each thing that happens, for a file or a pipe. What another start of the job does appears as soon as that runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from distckpt.cli.calling import credentials_of
from distckpt.cli.signals import Asked, until_asked
from distckpt.cli.text import print_lines
from distckpt.errors import CorruptData, StorageError
from distckpt.observe.looking import Looker
from distckpt.observe.picture import Picture

EVERY_S = 1.0


def run(arguments: argparse.Namespace) -> int:
    with until_asked() as asked, Looker(arguments.directory, credentials_of(arguments)) as looker:
        if sys.stdout.isatty():
            from distckpt.cli.screen import draw  # noqa: PLC0415 - rich takes a tenth of a second, and a pipe needs none

            draw(_pictures(looker, asked))
        else:
            _print(_pictures(looker, asked))
    return 0


def _print(pictures: Iterator[Picture | str]) -> None:
    from distckpt.cli.following import Following  # noqa: PLC0415

    following = Following()
    for picture in pictures:
        print_lines([picture] if isinstance(picture, str) else following.news(picture))
        sys.stdout.flush()


def _pictures(looker: Looker, asked: Asked) -> Iterator[Picture | str]:
    """A picture each second until `asked`; a sentence instead where the directory cannot be read just now."""
    while True:
        try:
            yield looker.look()
        except (StorageError, CorruptData) as error:
            yield f"cannot be read, and is tried again: {error}"
        if asked.wait(EVERY_S):
            return
