"""`distckpt ls DIR [--json]`: the checkpoints in a directory, in the order of their commits."""

from __future__ import annotations

import argparse

from distckpt.bundle.names import is_state_name
from distckpt.catalog import Catalog
from distckpt.cli.text import checkpoint_json, local_time, print_json, print_lines
from distckpt.errors import ConfigurationError
from distckpt.journal.state import Quarantined
from distckpt.model import Checkpoint
from distckpt.text import columns, size


def run(arguments: argparse.Namespace) -> int:
    catalog = Catalog(arguments.directory)
    checkpoints, quarantined = catalog.checkpoints, catalog.quarantined
    if arguments.json:
        aside = [{"reason": each.reason, **checkpoint_json(each.checkpoint)} for each in quarantined]
        print_json({"checkpoints": [checkpoint_json(each) for each in checkpoints], "quarantined": aside})
        return 0
    if not checkpoints and not quarantined:
        raise ConfigurationError(f"{catalog.directory}: no checkpoints: neither distckpt nor TensorFlow saved here")
    print_lines(_table(checkpoints) + [_aside(each) for each in quarantined])
    return 0


def _table(checkpoints: tuple[Checkpoint, ...]) -> list[str]:
    heads = ["STEP", "NAME", "COMMITTED", "SIZE", "DATA FILES", "WRITTEN BY", "KEPT", "METRICS"]
    return columns([heads, *map(_row, checkpoints)], right=(0, 3, 4))


def _row(checkpoint: Checkpoint) -> list[str]:
    return [
        str(checkpoint.step),
        checkpoint.name,
        local_time(checkpoint.timestamp),
        size(checkpoint.size_bytes),
        str(_data_files(checkpoint)),
        "TensorFlow" if checkpoint.adopted else f"generation {checkpoint.generation}",
        "for good" if checkpoint.preserved else "",
        " ".join(f"{name}={value:g}" for name, value in sorted(checkpoint.metrics.items())),
    ]


def _data_files(checkpoint: Checkpoint) -> int:
    """Those of the model: what only single workers have is no part of it."""
    prefixes = [file.name.rpartition(".data-")[0] for file in checkpoint.files]
    return sum(bool(prefix) and not is_state_name(prefix) for prefix in prefixes)


def _aside(quarantined: Quarantined) -> str:
    return f"set aside: {quarantined.checkpoint.name}: {quarantined.reason}"
