"""Files beside a checkpoint may hold anything: a job starts all the same, or says which file is wrong, and never
reads, publishes or deletes anything outside of its directory.
"""

from __future__ import annotations

import json
import math
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distckpt.bundle.index import INDEX_BYTES_MAX
from distckpt.bundle.statefile import CheckpointState, format_state, parse_state
from distckpt.catalog import Catalog
from distckpt.commit.adoption import find_adoptable
from distckpt.commit.manifest import decode_manifest
from distckpt.commit.removal import POSTPONED, postponed
from distckpt.commit.verification import read_manifest
from distckpt.errors import CorruptCheckpoint, CorruptData, DistckptError, InvalidName
from distckpt.journal.codec import encode_entry
from distckpt.journal.leases import LEASES
from distckpt.journal.names import slot_key
from distckpt.journal.records import CommitRecord, Entry, GenerationRecord, Process, QuarantineRecord, RetireRecord
from distckpt.model import Checkpoint, FileRecord
from distckpt.observe.retained import leases_in
from distckpt.storage.memory import MemoryStorage
from distckpt.storage.posix import PosixStorage

Forged = Callable[[Any], st.SearchStrategy[Any]]
bounded = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
FILE = {"file": "c.worker-0.data-00000-of-00001", "bytes": 4}
MANIFEST = {
    "format": 1,
    "name": "ckpt-5",
    "step": 5,
    "generation": 1,
    "job": "job",
    "timestamp": 5.5,
    "tensors": 2,
    "tensor_bytes": 800,
    "metrics": {"loss": 0.5},
    "index": {"file": "ckpt-5.index", "bytes": 9, "sha256": "00"},
    "shards": [{"file": "ckpt-5.data-00000-of-00001", "bytes": 800, "worker": 0}],
    "missing_workers": [1],
    "worker_states": {
        "world_size": 2,
        "files": [{"worker": 0, "name": "c.worker-0", "data": FILE, "index": {**FILE, "sha256": "00"}}],
    },
}
OUTSIDE = ("../outside", "/etc/passwd", "a/../../outside", ".distckpt/staging/1/x", "a\0b", "a" * 300, "", "a//b")

HUGE_BYTES = 100 << 30
MEMORY_BYTES_MAX = 4 << 20


@bounded
@given(data=st.data())
def test_a_forged_manifest_is_read_or_refused_by_name(forged: Forged, data: st.DataObject) -> None:
    content = json.dumps(data.draw(forged(MANIFEST))).encode()
    try:
        manifest = decode_manifest(content, "the-file")
    except CorruptCheckpoint:
        return
    assert 0 <= manifest.step < 2**63
    assert all(0 <= shard.size_bytes < 2**63 for shard in manifest.shards)


@pytest.mark.parametrize("number", ["Infinity", "NaN", "1e400", "1" + "0" * 400, "-1", "1.5", '"5"', "true"])
def test_a_step_that_is_none_is_refused(number: str) -> None:
    content = json.dumps(MANIFEST).replace('"step": 5', f'"step": {number}')
    with pytest.raises(CorruptCheckpoint, match="the-file"):
        decode_manifest(content.encode(), "the-file")


@bounded
@given(
    latest=st.sampled_from(OUTSIDE[:-2]) | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
    others=st.lists(st.sampled_from(OUTSIDE) | st.text("./a\0\\", max_size=8), max_size=3),
    stamps=st.lists(st.floats(), min_size=3, max_size=3),
    last=st.floats(),
)
def test_a_job_starts_whatever_the_state_file_names(
    tmp_path: Path, latest: str, others: list[str], stamps: list[float], last: float
) -> None:
    storage = PosixStorage.create(tmp_path / "directory")
    (tmp_path / "outside.index").write_bytes(b"not of this directory")
    state = CheckpointState(latest, tuple(others), tuple(stamps[: len(others)]), last)
    storage.put("checkpoint", format_state(state))
    found = find_adoptable(storage, str(storage.directory), frozenset(), 1.0)
    assert found.checkpoints == ()
    assert all(".." not in name.split("/") and not name.startswith("/") for name in found.listed)


def test_times_that_are_none_do_not_keep_a_job_from_starting(new_chief: Any, values_in: Any) -> None:
    written, storage = MemoryStorage(), MemoryStorage()
    new_chief(written).commit(1, 1.0)
    for key in written.keys(""):
        if key.startswith("ckpt-1."):
            storage.put(key, written.read(key))
    storage.put("checkpoint", format_state(CheckpointState("ckpt-1", ("ckpt-1",), (math.nan,), math.inf)))
    assert new_chief(storage).commit(2, 2.0) == ()
    assert values_in(storage) == {1: 1.0, 2: 2.0}
    assert np.isfinite(parse_state(storage.read("checkpoint")).all_model_checkpoint_timestamps).all()


def forged_journal(storage: PosixStorage, name: str, handle: str) -> None:
    """A journal whose checkpoint `name` is of files outside, committed, set aside and retired."""
    begun = GenerationRecord(1, "job", "nonce", Process("h", 1, "", "", ""), ("h:1",), 1.0)
    files = (FileRecord(f"{name}.data", 4, handle), FileRecord(f"{name}.index", 4, handle))
    checkpoint = Checkpoint(name, 1, 1.0, 1, files, "00" * 32)
    other = Checkpoint("ckpt-2", 2, 1.0, 1, files, "00" * 32)
    records = (begun, CommitRecord(checkpoint), CommitRecord(other), RetireRecord((name,)))
    for slot, record in enumerate((*records, QuarantineRecord("ckpt-2", "why"), CommitRecord(checkpoint)), 1):
        storage.put(slot_key(slot), encode_entry(Entry(slot, 1, "n", record)))


@pytest.mark.parametrize("handle", ["1/../../../outside", "../outside", "/etc/passwd", "1/x\ud800"])
def test_a_journal_that_names_files_outside_touches_none(tmp_path: Path, new_chief: Any, handle: str) -> None:
    storage = PosixStorage.create(tmp_path / "directory")
    beside = tmp_path / "outside"
    for suffix in ("", ".index", ".data"):
        Path(f"{beside}{suffix}").write_text("not of this directory")
    forged_journal(storage, "../outside", handle)
    catalog = Catalog(storage.directory)
    with pytest.raises(InvalidName):
        catalog.entries(1)
    with pytest.raises(InvalidName):
        catalog.verify(1)
    with pytest.raises(DistckptError):
        new_chief(storage)
    assert [Path(f"{beside}{suffix}").read_text() for suffix in ("", ".index", ".data")] == [
        "not of this directory"
    ] * 3


@pytest.mark.parametrize("content", ["[" * 100_000, "", "null", '{"name": "../x"}', "9" * 9_999])
def test_what_is_no_postponed_checkpoint_stays_and_harms_nobody(content: str) -> None:
    storage = MemoryStorage()
    storage.put(f"{POSTPONED}/1/ckpt-1.json", content.encode())
    assert list(postponed(storage)) == []


def test_files_of_terabytes_are_refused_by_name_and_not_read(tmp_path: Path, new_chief: Any) -> None:
    directory = tmp_path / "job"
    chief = new_chief(PosixStorage.create(directory))
    chief.commit(1, 1.0)
    lease = directory / LEASES / "huge"
    waiting = directory / POSTPONED / "1" / "huge.json"
    for path in (directory / "checkpoint", directory / "ckpt-1.manifest.json", lease, waiting):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.truncate(path, 1 << 42)
    storage, catalog = PosixStorage(directory), Catalog(directory)
    tracemalloc.start()
    with pytest.raises(CorruptData, match=r"checkpoint: it has 4398046511104 bytes, .* move it away"):
        new_chief(storage)
    with pytest.raises(CorruptCheckpoint, match=r"ckpt-1\.manifest\.json"):
        catalog.manifest(1)
    assert [fault.file for fault in catalog.verify(1)][:1] == ["ckpt-1.manifest.json"]
    assert list(postponed(storage)) == []
    assert leases_in(storage) == ()
    assert tracemalloc.get_traced_memory()[1] < 256 << 20
    tracemalloc.stop()


def test_a_committed_index_that_has_become_huge_is_a_fault_and_is_set_aside(new_chief: Any, tmp_path: Path) -> None:
    storage = PosixStorage.create(tmp_path)
    chief = new_chief(storage)
    chief.commit(1, 1.0)
    chief.commit(2, 2.0)
    os.truncate(tmp_path / "ckpt-2.index", HUGE_BYTES)  # it has no more blocks than before
    tracemalloc.start()
    try:
        _, faults = read_manifest(storage, "ckpt-2", chief.journal.state.live[1].manifest_sha256)
        assert [(fault.file, str(HUGE_BYTES) in fault.detail) for fault in faults] == [("ckpt-2.index", True)]
        with pytest.raises(CorruptCheckpoint, match=r"ckpt-2\.index"):
            Catalog(tmp_path).entries(2)
        assert tracemalloc.get_traced_memory()[1] < MEMORY_BYTES_MAX
    finally:
        tracemalloc.stop()
    chief.committer.quarantine("ckpt-2", "it is huge")
    assert storage.size(".distckpt/quarantine/ckpt-2.index") == INDEX_BYTES_MAX
