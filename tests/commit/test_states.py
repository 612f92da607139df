"""The workers' own states are files of the checkpoint, in whatever happens to it."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

import pytest

from distckpt.bundle.verify import verify
from distckpt.commit.manifest import decode_manifest, encode_manifest
from distckpt.commit.verification import read_manifest, verify_states
from distckpt.errors import WriteFailed
from distckpt.journal.log import Journal
from distckpt.model import Shard, StagedState
from distckpt.protocol.effects import Commit
from distckpt.storage.memory import MemoryStorage

FILES = [f"ckpt-1.worker-0000{worker}-of-00003.{end}" for worker in (0, 2) for end in ("data-00000-of-00001", "index")]


def test_the_manifest_names_them(new_chief: Any) -> None:
    storage = MemoryStorage()
    new_chief(storage).commit(1, 5.0, workers=3, states=(0, 2))
    data = storage.read("ckpt-1.manifest.json")
    manifest = decode_manifest(data, "m")
    assert encode_manifest(manifest) == data
    assert manifest.states is not None
    assert [each.worker for each in manifest.states.files] == [0, 2]
    assert manifest.states.world_size == 3
    assert [file.name for file in Journal.open(storage).state.live[0].files][3:7] == FILES
    assert manifest.tensor_bytes == 1200, "they are no part of the model"


def test_a_manifest_of_before_there_were_any_has_none(new_chief: Any) -> None:
    storage = MemoryStorage()
    new_chief(storage).commit(1, 5.0)
    assert "worker_states" not in json.loads(storage.read("ckpt-1.manifest.json"))
    assert decode_manifest(storage.read("ckpt-1.manifest.json"), "m").states is None


def test_the_next_generation_puts_them_back_where_a_zombie_took_them(new_chief: Any) -> None:
    storage = MemoryStorage()
    new_chief(storage).commit(1, 5.0, workers=3, states=(0, 2))
    for file in FILES:
        storage.delete(file)
    new_chief(storage)
    (checkpoint,) = Journal.open(storage).state.live
    manifest, faults = read_manifest(storage, "ckpt-1", checkpoint.manifest_sha256)
    assert faults == verify_states(storage, manifest) == []


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_each_state_is_verified_in_one_part(new_chief: Any, parts: int) -> None:
    storage = MemoryStorage()
    chief = new_chief(storage)
    chief.commit(1, 5.0, workers=3, states=(0, 1, 2))
    manifest, _ = read_manifest(storage, "ckpt-1", chief.journal.state.live[0].manifest_sha256)
    for worker in range(3):
        storage.delete(f"ckpt-1.worker-0000{worker}-of-00003.data-00000-of-00001")
    found = [fault.file for part in range(parts) for fault in verify_states(storage, manifest, part, parts)]
    assert sorted(found) == [f"ckpt-1.worker-0000{worker}-of-00003.data-00000-of-00001" for worker in range(3)]


def test_a_lost_state_file_is_set_aside_with_its_checkpoint_at_the_next_start(new_chief: Any) -> None:
    storage = MemoryStorage()
    chief = new_chief(storage)
    chief.commit(1, 5.0)
    chief.commit(2, 6.0, states=(0, 1))
    (_, latest) = chief.journal.state.live
    for file in latest.files:
        if ".worker-00001" in file.name:
            storage.delete(file.name)
            storage.discard(file.handle)
    again = new_chief(storage)
    assert [each.name for each in again.journal.state.live] == ["ckpt-1"]
    assert [each.checkpoint.name for each in again.journal.state.quarantined] == ["ckpt-2"]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_chief_that_dies_at_any_operation_leaves_all_states_of_a_checkpoint_or_none(
    moment: str, faulty: Any, new_chief: Any
) -> None:
    """The second commit replaces the first, of more workers, under its name, and is retired with it or kept."""
    seen = set()
    for number in count():
        storage = MemoryStorage()
        new_chief(storage).commit(1, 5.0, workers=3, states=(0, 1, 2))
        broken = faulty.FaultyStorage(storage, **{moment: faulty.at(number, faulty.Crash())})
        acknowledged = False
        try:
            chief = new_chief(broken, keep=1)
            chief.commit(1, 6.0, workers=2, states=(0, 1))
            chief.commit(2, 7.0, workers=2, states=(1,))
            acknowledged = True
        except faulty.Crash:
            new_chief(storage, keep=1)
        found = [(checkpoint, *whole(storage, checkpoint)) for checkpoint in Journal.open(storage).state.live]
        visible = {key for key in storage.keys("") if ".worker-" in key and not key.startswith(".")}
        assert visible == {file for _, files, _ in found for file in files}
        assert storage.staged() == sorted(file.handle for each, _, _ in found for file in each.files)
        seen.add(tuple((each.step, workers) for each, _, workers in found))
        if acknowledged:
            break
    assert seen == {((1, 3),), ((1, 2),), ((1, 2), (2, 1)), ((2, 1),)}


def whole(storage: Any, checkpoint: Any) -> tuple[set[str], int]:
    """The names of the state files of a checkpoint that is what was written, and the number of its states."""
    manifest, faults = read_manifest(storage, checkpoint.name, checkpoint.manifest_sha256)
    assert faults == verify_states(storage, manifest) == verify(storage, checkpoint.name) == []
    assert manifest is not None
    assert manifest.states is not None
    files = {name for each in manifest.states.files for name in (each.data.name, each.index.name)}
    return files, len(manifest.states.files)


def test_one_that_is_shorter_than_was_reported_is_not_committed(new_chief: Any) -> None:
    storage = MemoryStorage()
    chief = new_chief(storage)
    handles = []
    for name in ("data", "index"):
        file = storage.stage(1, name)
        file.write_at(0, b"1234")
        handles.append(file.seal())
    shard = Shard(1, "", 0, (), StagedState(2, handles[0], 4, handles[1], 5, "00"))
    with pytest.raises(WriteFailed, match="worker 1 wrote 5 bytes of its state"):
        chief.committer.commit(Commit(1, 1, "ckpt-1", (shard,), {}))


def test_a_directory_whose_state_file_is_garbage_has_no_checkpoints_of_single_workers(new_chief: Any) -> None:
    """They look like TensorFlow's bundles, and are none that a training could be restored from."""
    storage = MemoryStorage()
    new_chief(storage).commit(1, 5.0, states=(0, 1))
    for key in storage.keys(".distckpt"):  # the directory was copied without its hidden folder
        storage.delete(key)
    storage.put("checkpoint", b"garbage")
    again = new_chief(storage)
    assert [each.name for each in again.journal.state.live] == ["ckpt-1"]
    assert verify(storage, "ckpt-1") == []
