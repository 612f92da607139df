"""The manifest is read back as it was written, and anything else is refused by name."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distckpt.commit.manifest import decode_manifest, encode_manifest, manifest_file
from distckpt.errors import CorruptCheckpoint, WriteFailed
from distckpt.model import Shard
from distckpt.protocol.effects import Commit
from distckpt.storage.memory import MemoryStorage


def test_the_chain_of_checksums_runs_from_the_journal_to_the_index(new_chief: Any) -> None:
    storage = MemoryStorage()
    chief = new_chief(storage)
    chief.commit(5, 1.0)
    (checkpoint,) = chief.journal.state.live
    data = storage.read(manifest_file("ckpt-5"))
    assert hashlib.sha256(data).hexdigest() == checkpoint.manifest_sha256
    manifest = decode_manifest(data, "m")
    assert hashlib.sha256(storage.read("ckpt-5.index")).hexdigest() == manifest.index_sha256
    assert [shard.name for shard in manifest.shards] == ["ckpt-5.data-00000-of-00002", "ckpt-5.data-00001-of-00002"]
    assert (manifest.workers, manifest.tensors, manifest.tensor_bytes) == ((0, 1), 2, 800)
    assert encode_manifest(manifest) == data


@given(st.binary(max_size=200))
def test_bytes_that_are_no_manifest_are_refused_by_name(data: bytes) -> None:
    with pytest.raises(CorruptCheckpoint, match="the-file"):
        decode_manifest(data, "the-file")


@pytest.mark.parametrize("body", ["[]", "{}", '{"format": 2}', '{"format": 1, "name": 3}', "[" * 100_000])
def test_json_that_is_no_manifest_is_refused_by_name(body: str) -> None:
    with pytest.raises(CorruptCheckpoint, match="the-file"):
        decode_manifest(body.encode(), "the-file")


def test_a_shard_of_another_size_than_was_reported_is_not_committed(new_chief: Any) -> None:
    storage = MemoryStorage()
    chief = new_chief(storage)
    file = storage.stage(1, "short")
    file.write_at(0, b"1234")
    shard = Shard(1, file.seal(), 5, ())
    with pytest.raises(WriteFailed, match="worker 1"):
        chief.committer.commit(Commit(1, 1, "ckpt-1", (shard,), {}))
    assert chief.journal.state.live == ()
