"""The names of a checkpoint's files (core/util/tensor_bundle/naming.cc). `name` is the prefix, as `ckpt-100`."""

from __future__ import annotations

import re


def index_file(name: str) -> str:
    return f"{name}.index"


def data_file(name: str, shard: int, num_shards: int) -> str:
    return f"{name}.data-{shard:05d}-of-{num_shards:05d}"


def state_name(name: str, worker: int, world_size: int) -> str:
    """The prefix of what only one worker has, a checkpoint of its own beside the one of all: distckpt's own name."""
    return f"{name}.worker-{worker:05d}-of-{world_size:05d}"


def is_state_name(name: str) -> bool:
    """Whether `state_name` makes such a prefix."""
    return re.search(r"\.worker-\d{5,}-of-\d{5,}$", name) is not None
