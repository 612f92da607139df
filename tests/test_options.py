"""Options that no job can run with are refused where they are made."""

from __future__ import annotations

from typing import Any

import pytest

from distckpt import Options
from distckpt.errors import ConfigurationError


@pytest.mark.parametrize("threads", [0, -1, True, 2.0, "2", None])
def test_threads_that_cannot_be_are_refused(threads: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"writer_threads={threads!r}.*a positive number of threads"):
        Options(writer_threads=threads)
