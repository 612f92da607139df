"""The manifest `NAME.manifest.json`: JSON, for people and for tools; its sha256 stands in the journal's COMMIT.

The chain of checksums: the journal's record has its own; it holds the manifest's sha256; the manifest holds the index's
sha256; the index holds the CRC32C of every tensor. So every byte of a checkpoint is under a checksum. What only single
workers have hangs on the same chain: the manifest holds the sha256 of the index of each (`worker_states`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from distckpt.errors import CorruptCheckpoint
from distckpt.model import FileRecord, Manifest, StateFiles, WorkerStates

FORMAT = 1
BYTES_MAX = 64 << 20
_COUNT_MAX = 2**63 - 1


def manifest_file(name: str) -> str:
    return f"{name}.manifest.json"


def encode_manifest(manifest: Manifest) -> bytes:
    """The file's content; the same for equal manifests."""
    body: dict[str, Any] = {
        "format": FORMAT,
        "name": manifest.name,
        "step": manifest.step,
        "generation": manifest.generation,
        "job": manifest.job,
        "timestamp": manifest.timestamp,
        "tensors": manifest.tensors,
        "tensor_bytes": manifest.tensor_bytes,
        "metrics": dict(manifest.metrics),
        "index": {"file": manifest.index.name, "bytes": manifest.index.size_bytes, "sha256": manifest.index_sha256},
        "shards": [
            {"file": shard.name, "bytes": shard.size_bytes, "worker": worker}
            | ({"linked": True} if number in manifest.linked else {})
            for number, (shard, worker) in enumerate(zip(manifest.shards, manifest.workers, strict=True))
        ],
    }
    if manifest.missing_workers:
        body["missing_workers"] = list(manifest.missing_workers)
    if manifest.states is not None:
        body["worker_states"] = _states_json(manifest.states)
    return json.dumps(body, indent=2, sort_keys=True).encode() + b"\n"


def decode_manifest(data: bytes, path: str) -> Manifest:
    """Reads what `encode_manifest` wrote. Raises CorruptCheckpoint, naming `path`, for anything else."""
    if len(data) > BYTES_MAX:
        raise CorruptCheckpoint(path, f"the manifest has {len(data)} bytes; at most {BYTES_MAX} are read")
    try:
        body = json.loads(data)
        if body["format"] != FORMAT:
            raise CorruptCheckpoint(path, f"manifest format {body['format']!r}; this distckpt reads {FORMAT}")
        return _manifest(body)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise CorruptCheckpoint(path, f"not a manifest: {type(error).__name__}: {error}") from error


def _manifest(body: Mapping[str, Any]) -> Manifest:
    index = body["index"]
    return Manifest(
        name=str(body["name"]),
        step=_count(body["step"]),
        generation=_count(body["generation"]),
        job=str(body["job"]),
        timestamp=float(body["timestamp"]),
        shards=tuple(_file(shard) for shard in body["shards"]),
        workers=tuple(_count(shard["worker"]) for shard in body["shards"]),
        index=_file(index),
        index_sha256=str(index["sha256"]),
        tensors=_count(body["tensors"]),
        tensor_bytes=_count(body["tensor_bytes"]),
        missing_workers=tuple(_count(worker) for worker in body.get("missing_workers", ())),
        metrics={str(key): float(value) for key, value in body["metrics"].items()},
        states=_states(body["worker_states"]) if "worker_states" in body else None,
        linked=tuple(number for number, shard in enumerate(body["shards"]) if shard.get("linked", False)),
    )


def _states_json(states: WorkerStates) -> dict[str, object]:
    files = [
        {
            "worker": each.worker,
            "name": each.name,
            "data": {"file": each.data.name, "bytes": each.data.size_bytes},
            "index": {"file": each.index.name, "bytes": each.index.size_bytes, "sha256": each.sha256},
        }
        for each in states.files
    ]
    return {"world_size": states.world_size, "files": files}


def _states(body: Mapping[str, Any]) -> WorkerStates:
    files = tuple(
        StateFiles(
            _count(each["worker"]),
            str(each["name"]),
            _file(each["data"]),
            _file(each["index"]),
            str(each["index"]["sha256"]),
        )
        for each in body["files"]
    )
    return WorkerStates(_count(body["world_size"], least=1), files)


def _file(body: Mapping[str, Any]) -> FileRecord:
    return FileRecord(name=str(body["file"]), size_bytes=_count(body["bytes"]))


def _count(value: object, least: int = 0) -> int:
    if type(value) is not int or not least <= value <= _COUNT_MAX:
        raise ValueError(f"{str(value)[:40]} is no number from {least} to 2**63 - 1")
    return value
