"""What is committed is what all workers hold: a value that differs is found, a tensor that nobody wrote is missed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from distckpt.bundle.payload import Payload
from distckpt.catalog import Catalog
from distckpt.errors import ReplicasDiffer, WriteFailed
from distckpt.model import Piece, Share
from distckpt.protocol.cross_check import PORTIONS
from distckpt.runtime import agent
from distckpt.runtime.cross_check import CrossChecker
from distckpt.storage.interface import StagedFile


def flipped(model: Any) -> Any:
    """The model with one bit of one element of one large tensor that is not as it should be."""
    embedding = model["embedding"].copy()
    embedding.view(np.uint32)[3999, 63] ^= 1
    return model | {"embedding": embedding}


def test_a_flipped_bit_aborts_the_save_on_all_workers_and_names_the_variable(job: Any, model: Any) -> None:
    workers = job.start(2, cross_check="refuse")
    tickets = [workers[0].save(100, model), workers[1].save(100, flipped(model))]
    for ticket in tickets:
        with pytest.raises(ReplicasDiffer, match=r"step 100: .*embedding \(workers [01] and [01]\)"):
            ticket.outcome.result()
    assert Catalog(job.directory).checkpoints == ()
    for ticket in [worker.save(110, model) for worker in workers]:
        assert ticket.outcome.result().checkpoint.step == 110


def test_a_flipped_bit_is_told_of_within_eight_saves_and_all_of_them_are_committed(
    job: Any, model: Any, caplog: pytest.LogCaptureFixture
) -> None:
    workers = job.start(2)
    other = flipped(model)
    with caplog.at_level(logging.WARNING, logger="distckpt.coordinator"):
        for step in range(PORTIONS["warn"]):
            for ticket in [workers[0].save(step, model), workers[1].save(step, other)]:
                ticket.outcome.result()
    told = [record.getMessage() for record in caplog.records if "differ between workers" in record.getMessage()]
    assert told
    assert all("embedding (workers" in line for line in told)
    assert len(Catalog(job.directory).checkpoints) == PORTIONS["warn"]


def test_equal_workers_are_never_told_that_they_differ(job: Any, model: Any, caplog: pytest.LogCaptureFixture) -> None:
    workers = job.start(3, cross_check="refuse")
    for step in range(3):
        own = {"only_the_chief_has_it": model["bias"]}
        tickets = [worker.save(step, model, own=own if worker.index == 0 else None) for worker in workers]
        for ticket in tickets:
            ticket.outcome.result()
    assert "differ" not in caplog.text


def test_one_worker_alone_has_nothing_to_compare_with(job: Any, model: Any) -> None:
    (worker,) = job.start(1, cross_check="refuse")
    assert worker.save(1, model).outcome.result().checkpoint.step == 1


class Held:
    """A snapshot of two tensors; the checksum of the first is not that of its bytes."""

    def payloads(self, pieces: Sequence[Piece], *, own: bool) -> list[Payload]:
        assert not own
        data = np.arange(8, dtype=np.uint8)
        checksums = {"words": 7, "numbers": None}
        return [Payload(each.tensor, 1, (2,), data, crc32c=checksums[each.tensor]) for each in pieces]


def test_strings_whose_checksum_is_not_that_of_their_bytes_are_not_compared() -> None:
    pieces = (Piece("words", 8), Piece("numbers", 8))
    held: Any = Held()
    check = CrossChecker("refuse", 0, 1, 1).check(held, [Share(0, ()), Share(1, pieces)], 2, 1)
    assert check is not None
    assert [each.tensor for each in check.sums] == ["numbers"]


def test_a_share_that_lacks_a_tensor_is_refused_before_the_commit_and_the_tensor_is_named(
    job: Any, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = agent.write_share

    def forgetful(payloads: Sequence[Payload], file: StagedFile, *, threads: int) -> Any:
        return honest([payload for payload in payloads if payload.name != "kernel"], file, threads=threads)

    monkeypatch.setattr(agent, "write_share", forgetful)
    workers = job.start(2)
    for ticket in [worker.save(7, model) for worker in workers]:
        with pytest.raises(WriteFailed, match="kernel: it is missing"):
            ticket.outcome.result()
    assert Catalog(job.directory).checkpoints == ()
