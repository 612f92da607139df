"""Columns and sizes as people read them."""

import pytest

from distckpt.text import columns, size


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KB"),
        (999_949, "999.9 KB"),
        (999_960, "1.0 MB"),
        (9_012_514, "9.0 MB"),
        (2**63 - 1, "9.2 EB"),
        (5_000 * 10**18, "5000.0 EB"),  # of several files, as their records say
    ],
)
def test_a_size_has_one_decimal_and_the_unit_that_fits(size_bytes: int, text: str) -> None:
    assert size(size_bytes) == text


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    rows = [["STEP", "NAME", "SIZE"], ["1", "a", "10"], ["1000", "abcdef", ""]]
    assert columns(rows, right=(0, 2)) == ["STEP  NAME    SIZE", "   1  a         10", "1000  abcdef"]
