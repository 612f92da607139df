"""Compares what distckpt captures with what TensorFlow itself writes, byte for byte. For tests and their scripts."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import trackable_object_graph_pb2

from distckpt.bundle.index import encode_index
from distckpt.bundle.names import data_file, index_file
from distckpt.bundle.payload import Payload
from distckpt.bundle.reader import BundleReader
from distckpt.bundle.writer import write_share
from distckpt.model import Piece
from distckpt.storage.posix import PosixStorage
from distckpt.tensors.snapshot import Snapshot

GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
OTHER_GRAPHS = "other object graphs"


def all_payloads(snapshot: Snapshot) -> list[Payload]:
    pieces = [Piece(spec.name, spec.size_bytes) for spec in snapshot.layout.replicated]
    return snapshot.payloads(pieces, own=True)


def write_bundle(payloads: Sequence[Payload], folder: Path, name: str) -> str:
    """Writes `payloads` as a checkpoint of one shard; returns its prefix."""
    storage = PosixStorage.create(folder)
    file = storage.stage(1, name)
    entries, _ = write_share(payloads, file, threads=2)
    storage.publish(file.seal(), data_file(name, 0, 1))
    storage.put(index_file(name), encode_index([entries]))
    return str(folder / name)


def differences(ours: str, theirs: str) -> list[str]:
    """How two checkpoints, given by their prefixes, differ: keys, types, shapes, bytes, object graphs."""
    mine, other = (BundleReader(PosixStorage(Path(prefix).parent), Path(prefix).name) for prefix in (ours, theirs))
    found = [f"only in one: {key}" for key in sorted(mine.tensors.keys() ^ other.tensors.keys())]
    for key in sorted(mine.tensors.keys() & other.tensors.keys()):
        one, two = mine.read(key), other.read(key)
        if (one.dtype, one.shape) != (two.dtype, two.shape):
            found.append(f"{key}: {one.dtype} {one.shape}, TensorFlow has {two.dtype} {two.shape}")
        elif key != GRAPH and (one.data.tobytes(), one.crc32c) != (two.data.tobytes(), two.crc32c):
            found.append(f"{key}: other bytes")
    if _graph(ours) != _graph(theirs):
        found.append(OTHER_GRAPHS)
    return found


def compare(checkpoint: Any, snapshot: Snapshot) -> list[str]:
    """How `snapshot` differs from what `checkpoint.write` writes now."""
    with tempfile.TemporaryDirectory() as folder:
        ours = write_bundle(all_payloads(snapshot), Path(folder), "ours")
        return differences(ours, checkpoint.write(f"{folder}/theirs"))


def _graph(prefix: str) -> Any:
    content = tf.train.load_checkpoint(prefix).get_tensor(GRAPH)
    return trackable_object_graph_pb2.TrackableObjectGraph.FromString(content)
