"""`distckpt verify DIR [STEP] [--json]`: reads every byte and compares the checksums. Code 1 if anything is wrong."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from distckpt.bundle.parallel import readers
from distckpt.bundle.verify import Fault
from distckpt.catalog import Catalog
from distckpt.cli.progress import Progress
from distckpt.cli.text import print_json, print_lines
from distckpt.errors import ConfigurationError
from distckpt.journal.leases import identity
from distckpt.model import Checkpoint
from distckpt.text import size

Result = tuple[Checkpoint, list[Fault]]


def run(arguments: argparse.Namespace) -> int:
    catalog = Catalog(arguments.directory)
    wanted = catalog.checkpoints if arguments.step is None else (catalog.checkpoint(arguments.step),)
    if not wanted:
        raise ConfigurationError(f"{catalog.directory}: no checkpoints to verify")
    results = []
    with Progress(sum(each.size_bytes for each in wanted)) as progress:
        for checkpoint in wanted:
            faults = catalog.verify(checkpoint, threads=readers(), on_read=progress.add)
            if faults and not _is_live(catalog, checkpoint):
                continue  # retention removed it while it was read: that is no fault
            results.append((checkpoint, faults))
            if not arguments.json:
                progress.clear()
                print_lines(_lines(checkpoint, faults))
        rate = progress.bytes_per_s
    corrupt = [checkpoint for checkpoint, faults in results if faults]
    if arguments.json:
        print_json({"ok": not corrupt, "checkpoints": [_json(*result) for result in results]})
    else:
        print_lines([_sentence(results, corrupt, rate)])
    return 1 if corrupt else 0


def _is_live(catalog: Catalog, checkpoint: Checkpoint) -> bool:
    """Told by whose it is: what was read again is not equal where a metric is NaN."""
    return identity(checkpoint) in map(identity, catalog.checkpoints)


def _lines(checkpoint: Checkpoint, faults: list[Fault]) -> list[str]:
    if not faults:
        return [f"{checkpoint.name}: {size(checkpoint.size_bytes)}: sound"]
    return [f"{checkpoint.name}: CORRUPT", *(f"  {fault}" for fault in faults)]


def _sentence(results: list[Result], corrupt: list[Checkpoint], rate: float) -> str:
    total = sum(checkpoint.size_bytes for checkpoint, _ in results)
    count = "1 checkpoint" if len(results) == 1 else f"{len(results)} checkpoints"
    if not corrupt:
        return f"Read {count}, {size(total)} at {size(int(rate))} per second: every byte is what was written."
    names = ", ".join(checkpoint.name for checkpoint in corrupt)
    return f"Of {count}, {len(corrupt)} cannot be trusted: {names}. A restore takes the newest one that is sound."


def _json(checkpoint: Checkpoint, faults: list[Fault]) -> dict[str, object]:
    return {"step": checkpoint.step, "name": checkpoint.name, "faults": [asdict(fault) for fault in faults]}
