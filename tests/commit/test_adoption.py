"""What plain TensorFlow left in the directory is taken over as it is; an unreadable state file loses nothing."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from distckpt.bundle.index import encode_index
from distckpt.bundle.payload import Payload
from distckpt.bundle.statefile import CheckpointState, format_state, parse_state
from distckpt.bundle.writer import write_share
from distckpt.commit.removal import POSTPONED
from distckpt.journal.log import Journal
from distckpt.storage.memory import MemoryStorage


def tensorflow_writes(storage: MemoryStorage, name: str, value: float) -> None:
    """A bundle without a manifest, as stock TensorFlow writes it."""
    file = storage.stage(0, f"tf-{name}")
    data = np.full(10, value, np.float32).view(np.uint8)
    entries, _ = write_share([Payload("tensor-0", 1, (10,), data)], file, threads=1)
    storage.publish(file.seal(), f"{name}.data-00000-of-00001")
    storage.put(f"{name}.index", encode_index([entries]))


def tensorflow_says(storage: MemoryStorage, *paths: str, stamps: tuple[float, ...] = ()) -> None:
    storage.put("checkpoint", format_state(CheckpointState(paths[-1], paths, stamps, 0.5)))


def live(storage: MemoryStorage) -> list[str]:
    return [checkpoint.name for checkpoint in Journal.open(storage).state.live]


def test_checkpoints_of_plain_tensorflow_are_adopted_with_their_times(new_chief: Any, values_in: Any) -> None:
    storage = MemoryStorage()
    for step in (1, 2):
        tensorflow_writes(storage, f"ckpt-{step}", step)
    tensorflow_says(storage, "ckpt-1", "ckpt-2", stamps=(10.0, 20.0))
    chief = new_chief(storage, keep=2)
    assert values_in(storage) == {1: 1.0, 2: 2.0}
    assert [checkpoint.timestamp for checkpoint in chief.journal.state.live] == [10.0, 20.0]
    assert parse_state(storage.read("checkpoint")).last_preserved_timestamp == 0.5
    assert chief.commit(3, 3.0) == ("ckpt-1",)
    assert [key for key in storage.keys("") if key.startswith("ckpt-1")] == []


def test_paths_may_be_absolute_and_those_outside_are_left_alone(new_chief: Any, caplog: Any) -> None:
    storage = MemoryStorage()
    tensorflow_writes(storage, "ckpt-2", 2)
    tensorflow_says(storage, "/elsewhere/ckpt-1", "../ckpt-9", "/job/ckpt-2")
    with caplog.at_level(logging.WARNING):
        new_chief(storage, directory="/job")
    assert live(storage) == ["ckpt-2"]
    assert "/elsewhere/ckpt-1" in caplog.text


def test_what_tensorflow_wrote_while_distckpt_was_uninstalled_is_adopted_as_the_newest(new_chief: Any) -> None:
    storage = MemoryStorage()
    new_chief(storage).commit(1, 1.0)
    tensorflow_writes(storage, "ckpt-2", 2)
    tensorflow_says(storage, "ckpt-1", "ckpt-2", stamps=(1.0, 2.0))
    new_chief(storage)
    assert live(storage) == ["ckpt-1", "ckpt-2"]


@pytest.mark.parametrize("garbage", [b"\x00\xff garbage", b"", b"model_checkpoint_path: 12"])
def test_a_garbage_state_file_is_kept_and_the_bundles_beside_it_are_adopted(
    garbage: bytes, new_chief: Any, values_in: Any, caplog: Any
) -> None:
    storage = MemoryStorage()
    for step in (9, 10):
        tensorflow_writes(storage, f"ckpt-{step}", step)
    storage.put("checkpoint", garbage)
    new_chief(storage)
    assert values_in(storage) == {9: 9.0, 10: 10.0}
    assert storage.read(".distckpt/quarantine/checkpoint") == garbage
    assert parse_state(storage.read("checkpoint")).model_checkpoint_path == "ckpt-10"
    assert "ckpt-9, ckpt-10" in caplog.text


def test_a_garbage_state_file_beside_a_journal_costs_nothing(new_chief: Any, values_in: Any) -> None:
    storage = MemoryStorage()
    new_chief(storage).commit(1, 1.0)
    storage.put("checkpoint", b"garbage")
    new_chief(storage)
    assert values_in(storage) == {1: 1.0}
    assert parse_state(storage.read("checkpoint")).model_checkpoint_path == "ckpt-1"


def test_a_checkpoint_whose_files_are_gone_is_not_adopted_and_said(new_chief: Any, caplog: Any) -> None:
    storage = MemoryStorage()
    tensorflow_writes(storage, "ckpt-1", 1)
    storage.delete("ckpt-1.data-00000-of-00001")
    tensorflow_says(storage, "ckpt-1")
    with caplog.at_level(logging.WARNING):
        new_chief(storage)
    assert live(storage) == []
    assert "ckpt-1" in caplog.text


def test_a_step_that_tensorflow_wrote_again_after_its_retirement_is_not_deleted(new_chief: Any) -> None:
    storage = MemoryStorage()
    chief = new_chief(storage, keep=1)
    chief.commit(1, 1.0)
    chief.commit(2, 2.0)
    tensorflow_writes(storage, "ckpt-1", 7)
    new_chief(storage)
    assert "ckpt-1.index" in storage.keys("")


def test_a_corrupt_checkpoint_is_set_aside_and_its_bytes_are_kept(new_chief: Any) -> None:
    storage = MemoryStorage()
    chief = new_chief(storage)
    chief.commit(1, 1.0)
    chief.commit(2, 2.0)
    index = storage.read("ckpt-2.index")
    chief.committer.quarantine("ckpt-2", "a flipped bit")
    assert live(storage) == ["ckpt-1"]
    assert parse_state(storage.read("checkpoint")).model_checkpoint_path == "ckpt-1"
    assert storage.read(".distckpt/quarantine/ckpt-2.index") == index
    assert "ckpt-2.data-00000-of-00002" in storage.keys("")
    assert chief.commit(2, 3.0) == ()
    assert live(storage) == ["ckpt-1", "ckpt-2"]


def test_an_adopted_one_whose_removal_was_postponed_is_let_go_where_tensorflow_may_have_written_it_anew(
    new_chief: Any,
) -> None:
    storage = MemoryStorage()
    tensorflow_writes(storage, "ckpt-1", 1)
    tensorflow_says(storage, "ckpt-1", stamps=(10.0,))
    chief = new_chief(storage, keep=1)
    looks = iter([()])
    chief.committer.leased = lambda _: next(looks, ("ckpt-1",))  # a reader comes while it is retired
    assert chief.commit(2, 2.0) == ("ckpt-1",)
    assert len(storage.keys(POSTPONED)) == 1
    tensorflow_writes(storage, "ckpt-1", 9)
    new_chief(storage, keep=1).commit(3, 3.0)
    assert storage.keys(POSTPONED) == []
    assert "ckpt-1.index" in storage.keys("")


def test_ours_whose_removal_was_postponed_is_removed_by_the_next_start(new_chief: Any) -> None:
    storage = MemoryStorage()
    chief = new_chief(storage, keep=1)
    chief.commit(1, 1.0)
    looks = iter([()])
    chief.committer.leased = lambda _: next(looks, ("ckpt-1",))  # a reader comes while it is retired
    assert chief.commit(2, 2.0) == ("ckpt-1",)
    assert "ckpt-1.index" in storage.keys("")
    new_chief(storage)
    assert [key for key in storage.keys("") if key.startswith("ckpt-1")] == []
    assert storage.keys(POSTPONED) == []
