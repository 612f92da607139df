"""Values whose bytes only TensorFlow can make: variants (tf.data iterators) and what registered savers write.

TensorFlow writes just those into a temporary bundle on this host, and the raw bytes and checksums are taken over from
there as they stand.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from distckpt.bundle.dtypes import dtype_of
from distckpt.bundle.index import decode_index
from distckpt.bundle.names import data_file, index_file
from distckpt.bundle.payload import Payload
from distckpt.errors import UnsupportedState
from distckpt.tensors import internals


def tensor_payloads(tensors: Sequence[tuple[str, Any]]) -> list[Payload]:
    """The payloads of whole tensors of any dtype, given as (key, eager tensor)."""
    if not tensors:
        return []
    keys = [key for key, _ in tensors]
    with tempfile.TemporaryDirectory(prefix="distckpt-") as folder:
        prefix = Path(folder) / "part"
        values = [tensor for _, tensor in tensors]
        tf.raw_ops.SaveV2(prefix=str(prefix), tensor_names=keys, shape_and_slices=[""] * len(keys), tensors=values)
        return list(bundle_payloads(prefix))


def saver_payloads(saver: str, trackables: Mapping[str, Any]) -> list[Payload]:
    """What the registered saver writes of its objects as of now; on the training thread, as TensorFlow calls it.

    Raises UnsupportedState if it fails, or writes files that are no part of the bundles it names: they cannot be
    carried into a checkpoint that several workers write.
    """
    with tempfile.TemporaryDirectory(prefix="distckpt-") as folder:
        try:
            named = internals.save_function(saver)(trackables, tf.constant(str(Path(folder) / saver)))
        except Exception as error:
            raise UnsupportedState(f"the registered saver {saver} failed: {error}") from error
        prefixes = [] if named is None else tf.nest.flatten(named)
        bundles = {Path(prefix.numpy().decode()) for prefix in prefixes}
        expected = {path for bundle in bundles for path in _files(bundle)}
        strays = {path for path in Path(folder).rglob("*") if path.is_file()} - expected
        if strays:
            raise UnsupportedState(f"the registered saver {saver} writes {min(strays).name} beside the checkpoint")
        return [payload for bundle in sorted(bundles) for payload in bundle_payloads(bundle)]


def _files(prefix: Path) -> Iterator[Path]:
    index = prefix.with_name(index_file(prefix.name))
    shards = decode_index(index.read_bytes(), str(index)).num_shards
    yield index
    for number in range(shards):
        yield prefix.with_name(data_file(prefix.name, number, shards))


def bundle_payloads(prefix: Path) -> Iterator[Payload]:
    """All that a bundle holds, whole tensors and slices, byte for byte."""
    path = prefix.with_name(index_file(prefix.name))
    index = decode_index(path.read_bytes(), str(path))
    for number, entries in index.shards.items():
        data = np.fromfile(prefix.with_name(data_file(prefix.name, number, index.num_shards)), np.uint8)
        for entry in entries:
            piece = data[entry.offset : entry.offset + entry.size_bytes]
            crc32c = entry.crc32c if dtype_of(entry.dtype).variable_length else None
            yield Payload(entry.name, entry.dtype, entry.shape, piece, entry.part, crc32c)
