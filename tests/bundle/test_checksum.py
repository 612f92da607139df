from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distckpt.bundle.checksum import combine, crc32c, mask, unmask
from distckpt.bundle.runs import Checksums, even_runs, plan_runs


def test_the_check_value_of_crc32c() -> None:
    assert crc32c(b"123456789") == 0xE3069283


def test_bytes_and_arrays_have_the_same_checksum_whole_and_extended() -> None:
    data = np.arange(1000, dtype=np.uint8)
    assert crc32c(data[300:], crc32c(data[:300])) == crc32c(data.tobytes())


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_checksums_of_two_halves_combine(first: bytes, second: bytes) -> None:
    assert combine(crc32c(first), crc32c(second), len(second)) == crc32c(first + second)


@pytest.mark.parametrize("gap", [2**24, 2**24 + 12345, 3 * 2**23 + 1])
def test_long_distances_combine(gap: int) -> None:
    zeros = np.zeros(gap, np.uint8)
    assert combine(crc32c(b"x"), crc32c(zeros), gap) == crc32c(zeros, crc32c(b"x"))


@given(st.integers(0, 2**32 - 1))
def test_unmask_undoes_mask(crc: int) -> None:
    assert unmask(mask(crc)) == crc


def test_a_masked_checksum_of_leveldbs_definition() -> None:
    assert mask(0) == 0xA282EAD8
    assert mask(1 << 15) == 0xA282EAD9


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), max_size=20),
    st.integers(1, 25),
    st.randoms(use_true_random=False),
)
def test_runs_cover_every_tensor_once_and_their_checksums_add_up(
    gaps_and_sizes: list[tuple[int, int]], run_bytes: int, random: object
) -> None:
    spans, end = [], 0
    for gap, size in gaps_and_sizes:
        spans.append((end + gap, size))
        end += gap + size
    data = np.random.default_rng(0).integers(0, 256, end, dtype=np.uint8)
    runs = list(plan_runs(spans, run_bytes))
    assert all(run.length <= run_bytes for run in runs)
    checksums = Checksums(size for _, size in spans)
    for run in sorted(runs, key=lambda _: random.random()):  # type: ignore[attr-defined] # hypothesis' own Random
        position = run.offset
        for portion in run.portions:
            assert position == spans[portion.item][0] + portion.start
            checksums.add(portion, crc32c(data[position : position + portion.length]))
            position += portion.length
    for item, (offset, size) in enumerate(spans):
        assert checksums.of(item) == crc32c(data[offset : offset + size])


@given(st.lists(st.integers(0, 40), max_size=20), st.integers(1, 25))
def test_even_runs_cover_tensors_that_lie_end_to_end_and_begin_at_multiples(sizes: list[int], run_bytes: int) -> None:
    data = np.random.default_rng(0).integers(0, 256, sum(sizes), dtype=np.uint8)
    checksums = Checksums(sizes)
    position = 0
    for number, run in enumerate(even_runs(sizes, run_bytes)):
        assert run.offset == number * run_bytes == position
        assert run.length == min(run_bytes, data.size - position)
        for portion in run.portions:
            assert position == sum(sizes[: portion.item]) + portion.start
            checksums.add(portion, crc32c(data[position : position + portion.length]))
            position += portion.length
    assert position == data.size
    for item, size in enumerate(sizes):
        begin = sum(sizes[:item])
        assert checksums.of(item) == crc32c(data[begin : begin + size])
