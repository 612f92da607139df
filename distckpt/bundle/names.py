"""The names of a checkpoint's files (core/util/tensor_bundle/naming.cc). `name` is the prefix, as `ckpt-100`."""

from __future__ import annotations


def index_file(name: str) -> str:
    return f"{name}.index"


def data_file(name: str, shard: int, num_shards: int) -> str:
    return f"{name}.data-{shard:05d}-of-{num_shards:05d}"
