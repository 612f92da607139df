"""What the journal's tests start from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest

from distckpt.journal.log import Journal
from distckpt.journal.records import Process
from distckpt.model import Checkpoint, FileRecord
from distckpt.storage.interface import Storage
from distckpt.storage.memory import MemoryStorage


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage()


@pytest.fixture
def begin() -> Callable[..., Journal]:
    """Opens the journal and begins a generation."""

    def begin(storage: Storage, *, job: str = "job", host: str = "host", pid: int = 1) -> Journal:
        journal = Journal.open(storage)
        journal.begin(job=job, process=Process(host, pid), world=("a:1", "b:2"), timestamp=1.5)
        return journal

    return begin


@pytest.fixture
def checkpoint() -> Callable[..., Checkpoint]:
    """A checkpoint of one shard, with its index."""

    def make(step: int, generation: int = 1, *, name: str = "", shards: int = 1, **fields: object) -> Checkpoint:
        name = name or f"ckpt-{step}"
        files = [f"{name}.data-{n:05d}-of-{shards:05d}" for n in range(shards)] + [f"{name}.index"]
        made = Checkpoint(
            name=name,
            step=step,
            timestamp=float(step),
            generation=generation,
            files=tuple(FileRecord(file, 10, f"{generation}/{file}") for file in files),
            manifest_sha256="ab" * 32,
        )
        return replace(made, **fields)

    return make


@pytest.fixture
def names_of() -> SimpleNamespace:
    """The names of what is live, retired, quarantined."""
    return SimpleNamespace(
        live=lambda state: [each.name for each in state.live],
        retired=lambda state: [each.name for each in state.retired],
        quarantined=lambda state: [each.checkpoint.name for each in state.quarantined],
    )
