"""`distckpt prune DIR --keep-latest N [--keep-every-steps K] [--dry-run] [--json]`: removes old checkpoints of a job
that has ended.
"""

from __future__ import annotations

import argparse

from distckpt.catalog import Catalog
from distckpt.cli.text import checkpoint_json, local_time, print_json, print_lines
from distckpt.commit.prune import Pruned, foresee, prune
from distckpt.errors import ConfigurationError
from distckpt.model import Checkpoint
from distckpt.protocol.retention import AnyOf, KeepEvery, KeepLatest, Policy
from distckpt.storage.posix import PosixStorage
from distckpt.text import columns, size


def run(arguments: argparse.Namespace) -> int:
    if not Catalog(arguments.directory).checkpoints:
        raise ConfigurationError(f"{arguments.directory}: no checkpoints to prune")
    storage = PosixStorage(arguments.directory)
    done = (foresee if arguments.dry_run else prune)(storage, str(storage.directory), _policy(arguments))
    if arguments.json:
        print_json(_json(done, dry_run=arguments.dry_run))
    else:
        print_lines([*_table(done), _sentence(done, dry_run=arguments.dry_run)])
    return 0


def _policy(arguments: argparse.Namespace) -> Policy:
    latest = KeepLatest(arguments.keep_latest)
    if arguments.keep_every_steps is None:
        return latest
    return AnyOf(latest, KeepEvery(steps=arguments.keep_every_steps))


def _table(done: Pruned) -> list[str]:
    rows = [(each, "remove") for each in done.removed]
    rows += [(each, "keep: it is being read" if each.name in done.leased else "keep") for each in done.kept]
    return columns([["STEP", "NAME", "COMMITTED", "SIZE", ""], *(_row(*row) for row in rows)], right=(0, 3))


def _row(checkpoint: Checkpoint, fate: str) -> list[str]:
    committed = local_time(checkpoint.timestamp)
    return [str(checkpoint.step), checkpoint.name, committed, size(checkpoint.size_bytes), fate]


def _sentence(done: Pruned, *, dry_run: bool) -> str:
    count = "1 checkpoint" if len(done.removed) == 1 else f"{len(done.removed)} checkpoints"
    verb = "Would remove" if dry_run else "Removed"
    nothing = "; nothing was changed" if dry_run else ""
    return f"{verb} {count}, {size(_bytes(done))}, and keep {len(done.kept)}{nothing}."


def _bytes(done: Pruned) -> int:
    return sum(each.size_bytes for each in done.removed)


def _json(done: Pruned, *, dry_run: bool) -> dict[str, object]:
    return {
        "dry_run": dry_run,
        "removed": [checkpoint_json(each) for each in done.removed],
        "kept": [checkpoint_json(each) for each in done.kept],
        "leased": sorted(done.leased),
        "bytes_removed": _bytes(done),
    }
