"""`distckpt show DIR STEP [--json]`: one checkpoint: what is known of it, its files, and each tensor in it."""

from __future__ import annotations

import argparse

from distckpt.bundle.dtypes import dtype_of
from distckpt.bundle.slices import describe
from distckpt.catalog import Catalog
from distckpt.cli.text import checkpoint_json, local_time, print_json, print_lines
from distckpt.model import Checkpoint, Entry, FileRecord, Manifest
from distckpt.text import columns, size

Located = tuple[int, Entry]
"""An entry with the number of the data file that it stands in."""


def run(arguments: argparse.Namespace) -> int:
    catalog = Catalog(arguments.directory)
    checkpoint = catalog.checkpoint(arguments.step)
    manifest, entries = catalog.manifest(arguments.step), catalog.entries(arguments.step)
    if arguments.json:
        tensors = [_tensor_json(each) for each in entries]
        print_json({**checkpoint_json(checkpoint), **_manifest_json(manifest), "tensors": tensors})
    else:
        print_lines([*_facts(checkpoint, manifest), "", *_files(checkpoint, manifest), "", *_tensors(entries)])
    return 0


def _facts(checkpoint: Checkpoint, manifest: Manifest | None) -> list[str]:
    facts = [["checkpoint", checkpoint.name], ["step", str(checkpoint.step)]]
    if manifest is None:
        facts.append(["written by", "TensorFlow, without distckpt"])
    else:
        facts += [["job", manifest.job], ["generation", str(manifest.generation)]]
        if manifest.states is not None:
            states = manifest.states
            facts.append(["worker states", f"{len(states.files)} of {states.world_size} workers"])
        if manifest.missing_workers:
            facts.append(["without", ", ".join(f"worker {worker}" for worker in manifest.missing_workers)])
    facts += [["committed", local_time(checkpoint.timestamp)], ["size", size(checkpoint.size_bytes)]]
    if linked := _linked(manifest):
        shared = sum(file.size_bytes for file in linked)
        facts.append(["linked", f"{size(shared)} stand in files shared with other checkpoints"])
    facts += [[name, f"{value:g}"] for name, value in sorted(checkpoint.metrics.items())]
    return columns(facts)


def _linked(manifest: Manifest | None) -> list[FileRecord]:
    return [] if manifest is None else [manifest.shards[number] for number in manifest.linked]


def _files(checkpoint: Checkpoint, manifest: Manifest | None) -> list[str]:
    writers = _writers(manifest)
    rows = [[file.name, f"{file.size_bytes:,}", writers.get(file.name, "")] for file in checkpoint.files]
    return columns([["FILE", "BYTES", "WRITTEN BY"], *rows], right=(1,))


def _writers(manifest: Manifest | None) -> dict[str, str]:
    if manifest is None:
        return {}
    writers = {shard.name: f"worker {worker}" for shard, worker in zip(manifest.shards, manifest.workers, strict=True)}
    for file in _linked(manifest):
        writers[file.name] += ", for an earlier checkpoint"
    for each in manifest.states.files if manifest.states else ():
        writers[each.data.name] = writers[each.index.name] = f"worker {each.worker}, its own state"
    return writers


def _tensors(entries: tuple[Located, ...]) -> list[str]:
    heads = ["TENSOR", "TYPE", "SHAPE", "SLICE", "BYTES", "DATA FILE"]
    return columns([heads, *map(_tensor_row, sorted(entries, key=_by_name))], right=(4, 5))


def _by_name(located: Located) -> tuple[str, int, int]:
    shard, entry = located
    return entry.name, shard, entry.offset


def _tensor_row(located: Located) -> list[str]:
    shard, entry = located
    part = describe(entry.part) if entry.part else ""
    shape = "x".join(map(str, entry.shape)) or "scalar"
    return [entry.name, dtype_of(entry.dtype).name, shape, part, f"{entry.size_bytes:,}", str(shard)]


def _manifest_json(manifest: Manifest | None) -> dict[str, object]:
    """`workers[i]` wrote data file i, for an earlier checkpoint where i is in `linked`; of `missing_workers` it holds
    nothing that only they had. `worker_states`: the prefixes of what only single workers had, by worker.
    """
    if manifest is None:
        return {}
    states = manifest.states.files if manifest.states else ()
    return {
        "job": manifest.job,
        "tensor_bytes": manifest.tensor_bytes,
        "workers": list(manifest.workers),
        "linked": list(manifest.linked),
        "missing_workers": list(manifest.missing_workers),
        "worker_states": {str(each.worker): each.name for each in states},
    }


def _tensor_json(located: Located) -> dict[str, object]:
    """`slice`: [start, length] per dimension, null for a whole tensor; `crc32c` is the plain one, not masked."""
    shard, entry = located
    return {
        "name": entry.name,
        "dtype": dtype_of(entry.dtype).name,
        "shape": list(entry.shape),
        "slice": [[extent.start, extent.length] for extent in entry.part] if entry.part else None,
        "shard": shard,
        "offset": entry.offset,
        "bytes": entry.size_bytes,
        "crc32c": entry.crc32c,
    }
