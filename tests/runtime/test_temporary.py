"""Which directory a worker's manager is about, where a program follows TensorFlow's recipe of temporary directories."""

from __future__ import annotations

from pathlib import Path

import pytest

from distckpt.model import Place
from distckpt.runtime.temporary import Readers, shared_directory

WORKER = Place(2, 4, ("a:1", "b:1", "c:1", "d:1"))
CHIEF = Place(0, 4, WORKER.addresses)


class Thing:
    """Stands for a manager or a checkpoint."""


@pytest.mark.parametrize(
    ("named", "shared"),
    [
        ("/data/workertemp_2/ckpt", "/data/ckpt"),  # the tutorial, PreemptionCheckpointHandler
        ("/data/ckpt/workertemp_2", "/data/ckpt"),  # tf_keras
        ("workertemp_2/ckpt", "ckpt"),
        ("./ckpt/", "./ckpt/"),
        ("/data/workertemp", "/data/workertemp"),
        ("/data/my_workertemp_2/ckpt", "/data/my_workertemp_2/ckpt"),
    ],
)
def test_a_temporary_directory_stands_for_the_chiefs(named: str, shared: str) -> None:
    assert shared_directory(named, WORKER) == shared


def test_the_chiefs_directory_is_what_it_says() -> None:
    assert shared_directory("/data/workertemp_2/ckpt", CHIEF) == "/data/workertemp_2/ckpt"


def test_the_newest_reader_of_the_same_checkpoint_is_found_until_it_is_forgotten(tmp_path: Path) -> None:
    readers: Readers[Thing] = Readers()
    mine, other = Thing(), Thing()
    first, second, elsewhere = Thing(), Thing(), Thing()
    readers.add(first, mine, str(tmp_path / "ckpt"))
    readers.add(second, mine, str(tmp_path / "ckpt" / "chief"))
    readers.add(elsewhere, mine, str(tmp_path / "ckpt-2"))
    assert readers.find(mine, str(tmp_path / "ckpt")) is second
    assert readers.find(other, str(tmp_path / "ckpt")) is None
    del second
    assert readers.find(mine, str(tmp_path / "ckpt")) is first
    assert readers.find(mine, str(tmp_path / "ckpt" / "chief")) is None
