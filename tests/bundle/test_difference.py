"""What differs between two checkpoints: which tensors, in how many elements, by how much."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from distckpt.bundle.difference import OBJECT_GRAPH, Difference, Form, differences
from distckpt.bundle.reader import BundleReader


@pytest.fixture
def compared(storage: Any, payload_of: Any, write_bundle: Any) -> Any:
    """Writes two checkpoints of the given arrays, and compares them."""

    def compare(one: dict[str, Any], other: dict[str, Any]) -> list[Difference]:
        for name, arrays in (("one", one), ("other", other)):
            write_bundle(name, [[payload_of(key, np.asarray(array)) for key, array in arrays.items()]])
        return list(differences(BundleReader(storage, "one"), BundleReader(storage, "other")))

    return compare


def test_what_is_the_same_is_not_told(compared: Any) -> None:
    arrays = {"a": np.float32([1, np.nan, np.inf]), "b": np.zeros((0, 3)), "c": np.int64(7)}
    assert compared(arrays, arrays) == []


def test_what_is_only_in_one_and_what_has_another_type_or_shape_is_told_with_its_forms(compared: Any) -> None:
    one = {"gone": np.float32([1]), "shape": np.float32([1, 2]), "type": np.float32([1])}
    other = {"new": np.int32([[1]]), "shape": np.float32([1, 2, 3]), "type": np.float64([1])}
    assert compared(one, other) == [
        Difference("gone", Form(1, (1,)), None),
        Difference("new", None, Form(3, (1, 1))),
        Difference("shape", Form(1, (2,)), Form(1, (3,))),
        Difference("type", Form(1, (1,)), Form(2, (1,))),
    ]


@pytest.mark.parametrize(
    ("one", "other", "elements", "largest"),
    [
        (np.float32([1, 2, 3]), np.float32([1, 2.5, 2]), 2, 1.0),
        (np.float16([1]), np.float16([1.5]), 1, 0.5),
        (np.array([1, 2], ml_dtypes.bfloat16), np.array([1, 2.5], ml_dtypes.bfloat16), 1, 0.5),
        (np.int64([2**62]), np.int64([2**62 - 1]), 1, 1.0),
        (np.uint8([0]), np.uint8([255]), 1, 255.0),
        (np.array([True, False]), np.array([False, False]), 1, 1.0),
        (np.complex64([3j]), np.complex64([4]), 1, 5.0),
        (np.float64([1, np.nan]), np.float64([1, 2]), 1, None),
        (np.float32([np.inf, 1]), np.float32([0, 3]), 2, 2.0),
        (np.float32([0, 1]), np.float32([np.nan, 3]), 2, 2.0),
        (np.float32([0.0]), np.float32([-0.0]), 1, 0.0),
        (np.array([1], ml_dtypes.float8_e5m2), np.array([2], ml_dtypes.float8_e5m2), 1, None),
    ],
    ids=str,
)
def test_other_values_are_counted_and_the_largest_difference_is_told(
    compared: Any, one: Any, other: Any, elements: int, largest: float | None
) -> None:
    (found,) = compared({"a": one}, {"a": other})
    assert (found.elements, found.max_abs) == (elements, largest)


def test_a_large_tensor_is_compared_to_its_end(compared: Any) -> None:
    one = np.zeros(3_000_000, np.float32)
    other = one.copy()
    other[[5, 2_999_999]] = 1, 4
    (found,) = compared({"a": one}, {"a": other})
    assert (found.elements, found.max_abs) == (2, 4.0)


def test_slices_and_whole_tensors_hold_the_same(storage: Any, payload_of: Any, write_bundle: Any) -> None:
    array = np.arange(12, dtype=np.float32).reshape(6, 2)
    write_bundle("whole", [[payload_of("a", array)]])
    write_bundle("slices", [[payload_of("a", array, (0, 4))], [payload_of("a", array, (4, 6))]])
    assert list(differences(BundleReader(storage, "whole"), BundleReader(storage, "slices"))) == []


def test_the_object_graph_is_left_out(compared: Any) -> None:
    assert compared({OBJECT_GRAPH: np.uint8([1])}, {OBJECT_GRAPH: np.uint8([2])}) == []
