"""`distckpt recover DIR [--dry-run] [--json]`: does what a dead job left undone, as its next start would."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from distckpt.catalog import Catalog
from distckpt.cli.text import print_json, print_lines
from distckpt.commit.repair import Action, rehearse, repair
from distckpt.errors import ConfigurationError
from distckpt.journal.reading import load
from distckpt.storage.posix import PosixStorage
from distckpt.text import columns, size


def run(arguments: argparse.Namespace) -> int:
    storage = PosixStorage(Catalog(arguments.directory).directory)
    if not load(storage).state.slot:
        raise ConfigurationError(
            f"{arguments.directory}: no job of distckpt ever ran here: there is nothing to recover"
        )
    done = (rehearse if arguments.dry_run else repair)(storage, str(storage.directory))
    if arguments.json:
        print_json({"dry_run": arguments.dry_run, "actions": [asdict(each) for each in done]})
    else:
        print_lines([*_table(done), _sentence(len(done), arguments)])
    return 0


def _table(done: tuple[Action, ...]) -> list[str]:
    return columns([_row(each) for each in done], right=(2,)) if done else []


def _row(action: Action) -> list[str]:
    return [action.verb, action.name, size(action.size_bytes) if action.size_bytes else "", action.detail]


def _sentence(count: int, arguments: argparse.Namespace) -> str:
    if not count:
        return "Nothing was left undone: the directory is as its journal says."
    if arguments.dry_run:
        return f"That would be done, {count} in all; nothing was changed."
    return f"That was done, {count} in all: the directory is as its journal says."
