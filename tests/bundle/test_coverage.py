from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distckpt.bundle.coverage import check_coverage, find_defects
from distckpt.model import Entry, Extent, Slice, TensorSpec

FLOAT = 1


def entry(name: str, shape: tuple[int, ...], part: Slice | None = None, offset: int = 0, dtype: int = FLOAT) -> Entry:
    held = shape if part is None else tuple(extent.length for extent in part)
    return Entry(name, dtype, shape, offset, 4 * math.prod(held), 0, part)


def apart(entries: list[Entry]) -> list[list[Entry]]:
    """Each entry in a file of its own, so that none shares bytes with another."""
    return [[each] for each in entries]


def boxes(shape: tuple[int, ...]) -> st.SearchStrategy[Slice]:
    def extent(dim: int) -> st.SearchStrategy[Extent]:
        bounds = st.tuples(st.integers(0, dim), st.integers(0, dim)).map(sorted)
        return bounds.map(lambda ends: Extent(ends[0], ends[1] - ends[0]))

    return st.tuples(*map(extent, shape))


def counts(shape: tuple[int, ...], parts: list[Slice]) -> np.ndarray:
    total = np.zeros(shape, int)
    for part in parts:
        total[tuple(slice(extent.start, extent.end) for extent in part)] += 1
    return total


@given(st.data())
def test_slices_are_accepted_if_and_only_if_they_cover_each_element_once(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple))
    parts = data.draw(st.lists(boxes(shape), min_size=2, max_size=5))
    defects = list(find_defects(apart([entry("x", shape, part) for part in parts])))
    covered = counts(shape, parts)
    if any(math.prod(extent.length for extent in part) == math.prod(shape) for part in parts):
        assert [defect.tensor for defect in defects] == ["x"]
    elif (covered == 1).all():
        assert defects == []
    else:
        first = tuple(int(at) for at in np.argwhere(covered != 1)[0])
        kind = "overlap" if covered[first] > 1 else "leave a gap"
        assert [str(defect) for defect in defects] == [f"x: its slices {kind} at {list(first)}"]


@given(st.data())
def test_every_grid_of_slices_in_any_order_is_accepted(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=4).map(tuple))
    axes = []
    for dim in shape:
        bounds = [0, *sorted(data.draw(st.sets(st.integers(0, dim)))), dim]
        axes.append([Extent(a, b - a) for a, b in itertools.pairwise(sorted(set(bounds)))])
    grid = data.draw(st.permutations(list(itertools.product(*axes))))
    check_coverage(apart([entry("x", shape, part) for part in grid]))


def test_a_tensor_that_is_there_twice_is_named() -> None:
    with pytest.raises(ValueError, match=r"^x: it is there whole, and once more"):
        check_coverage(apart([entry("y", (2,)), entry("x", (2,)), entry("x", (2,))]))


def test_a_tensor_that_is_there_whole_and_in_part_is_named() -> None:
    with pytest.raises(ValueError, match=r"^x: it is there whole, and once more"):
        check_coverage(apart([entry("x", (2,)), entry("x", (2,), (Extent(0, 1),))]))


def test_slices_of_different_types_are_named() -> None:
    parts = [entry("x", (2,), (Extent(0, 1),)), entry("x", (2,), (Extent(1, 1),), dtype=3)]
    with pytest.raises(ValueError, match=r"^x: its slices are of different types"):
        check_coverage(apart(parts))


def test_a_slice_of_another_rank_is_named() -> None:
    with pytest.raises(ValueError, match=r"^x: it has a slice of another rank"):
        check_coverage([[entry("x", (2, 2), (Extent(0, 2),))]])


def test_a_slice_beyond_the_tensor_is_named() -> None:
    with pytest.raises(ValueError, match=r"^x: its slices overlap at \[2\]"):
        check_coverage(apart([entry("x", (2,), (Extent(0, 1),)), entry("x", (2,), (Extent(1, 2),))]))


def test_two_tensors_that_share_bytes_of_a_file_are_named() -> None:
    with pytest.raises(ValueError, match=r"^y: its bytes at 4 are also those of x"):
        check_coverage([[entry("y", (2,), offset=4), entry("x", (2,))]])


def test_tensors_in_different_files_share_no_bytes() -> None:
    check_coverage([[entry("x", (2,))], [entry("y", (2,))]])


def test_empty_tensors_take_no_bytes() -> None:
    check_coverage([[entry("x", (0, 3)), entry("y", (0,)), entry("z", (2,))]])


SPEC = TensorSpec("x", FLOAT, (2,), 8)


@pytest.mark.parametrize(
    ("entries", "complaint"),
    [
        ([], "^x: it is missing"),
        ([entry("x", (3,))], "^x: it is of type and shape"),
        ([entry("x", (2,), dtype=3)], "^x: it is of type and shape"),
    ],
)
def test_what_differs_from_what_was_expected_is_named(entries: list[Entry], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        check_coverage(apart(entries), [SPEC])


def test_what_was_expected_is_accepted() -> None:
    check_coverage([[entry("x", (2,))]], [SPEC])
    check_coverage(apart([entry("x", (2,)), entry("only_one_worker_has_it", (2,))]), [SPEC])


def test_more_cut_axes_than_can_be_checked_are_refused_not_waited_for() -> None:
    shape = (2,) * 20
    corner = tuple(Extent(0, 1) for _ in shape)
    with pytest.raises(ValueError, match=r"^x: it is cut along 20 axes"):
        check_coverage(apart([entry("x", shape, corner), entry("x", shape, corner)]))


def test_an_empty_tensor_shares_no_byte_wherever_it_stands() -> None:
    assert list(find_defects([[entry("x", (4,)), entry("nothing", (0,), offset=8)]])) == []
