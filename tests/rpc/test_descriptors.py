"""A chief that may not open so many connections says so before anyone joins."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from distckpt.errors import ConfigurationError
from distckpt.rpc.descriptors import check_room_for


@pytest.fixture
def limit() -> Iterator[int]:
    """So many files may this process open, during the test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = len(list(Path("/dev/fd").iterdir())) + 100
    resource.setrlimit(resource.RLIMIT_NOFILE, (low, hard))
    yield low
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_more_workers_than_files_may_be_opened_are_refused_with_the_number_that_is_needed(limit: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"500 workers .* may open {limit} files.*\(ulimit -n \d+"):
        check_room_for(500)


@pytest.mark.usefixtures("limit")
def test_workers_for_whose_connections_there_is_room_are_not_refused() -> None:
    check_room_for(50)
