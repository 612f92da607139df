"""The plan: every tensor once, evenly, sliced only where it must be, the same on every worker."""

import random
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distckpt.model import Extent, Share, TensorSpec
from distckpt.protocol.plan import first_difference, plan, specs_digest

FLOAT32, INT64 = 1, 9


def tensor(name: str, *shape: int, dtype: int = FLOAT32) -> TensorSpec:
    size = 4
    for length in shape:
        size *= length
    return TensorSpec(name, dtype, shape, size, divisible=bool(shape))


@st.composite
def models(draw: st.DrawFn) -> list[TensorSpec]:
    shapes = draw(st.lists(st.lists(st.integers(0, 40), max_size=3), max_size=40))
    return [tensor(f"t{n}", *shape) for n, shape in enumerate(shapes)]


workers = st.lists(st.integers(0, 20_000), min_size=1, max_size=64)


def loads(shares: tuple[Share, ...], own: list[int]) -> list[int]:
    return [share.size_bytes + extra for share, extra in zip(shares, own, strict=True)]


def imbalance(specs: list[TensorSpec], world_size: int) -> float:
    """Largest share over mean share."""
    sizes = loads(plan(specs, [0] * world_size), [0] * world_size)
    return max(sizes) * world_size / sum(sizes)


@given(models(), workers)
def test_every_tensor_is_written_exactly_once(specs: list[TensorSpec], own: list[int]) -> None:
    shares = plan(specs, own)
    assert [share.worker for share in shares] == list(range(len(own)))
    written = defaultdict(list)
    for share in shares:
        for piece in share.pieces:
            written[piece.tensor].append(piece)
    assert set(written) == {spec.name for spec in specs}
    for spec in specs:
        pieces = written[spec.name]
        assert sum(piece.size_bytes for piece in pieces) == spec.size_bytes
        if len(pieces) == 1:
            assert pieces[0].rows is None
            continue
        rows = sorted(piece.rows for piece in pieces if piece.rows is not None)
        assert len(rows) == len(pieces)
        assert [extent.start for extent in rows] == [0, *(extent.end for extent in rows[:-1])]
        assert rows[-1].end == spec.shape[0]


@given(models(), workers, st.randoms(use_true_random=False))
def test_the_order_of_the_specs_does_not_matter(specs: list[TensorSpec], own: list[int], order: random.Random) -> None:
    shuffled = specs.copy()
    order.shuffle(shuffled)
    assert plan(shuffled, own) == plan(specs, own)
    assert specs_digest(shuffled) == specs_digest(specs)


@given(models(), workers)
def test_nobody_has_more_than_a_fair_share_and_one_thing_that_could_not_be_cut(
    specs: list[TensorSpec], own: list[int]
) -> None:
    total = sum(own) + sum(spec.size_bytes for spec in specs)
    fair = total / len(own)
    rows = [spec.size_bytes // spec.shape[0] for spec in specs if spec.divisible and spec.size_bytes > fair]
    whole = [spec.size_bytes for spec in specs if not (spec.divisible and spec.size_bytes > fair)]
    largest_unit = max([*rows, *whole, 0])
    assert max(loads(plan(specs, own), own)) <= max(fair * 1.02 + largest_unit + 1, *own)


@given(models(), workers)
def test_only_what_is_larger_than_a_fair_share_is_cut(specs: list[TensorSpec], own: list[int]) -> None:
    total = sum(own) + sum(spec.size_bytes for spec in specs)
    sizes = {spec.name: spec.size_bytes for spec in specs}
    cut = {piece.tensor for share in plan(specs, own) for piece in share.pieces if piece.rows is not None}
    assert all(sizes[name] * len(own) > total for name in cut)


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 7, 8, 16])
def test_a_model_of_many_layers_is_balanced(world_size: int) -> None:
    specs = [tensor(f"layer{n}/kernel", 512, 512) for n in range(96)] + [
        tensor(f"layer{n}/bias", 512) for n in range(96)
    ]
    assert imbalance(specs, world_size) <= 1.05


@pytest.mark.parametrize("world_size", [2, 3, 4, 7, 8, 16, 64])
def test_one_huge_embedding_is_balanced(world_size: int) -> None:
    specs = [tensor("embedding", 1_000_003, 64), *(tensor(f"dense{n}", 256, 256) for n in range(12)), tensor("step")]
    assert imbalance(specs, world_size) <= 1.05


def test_an_embedding_of_few_wide_rows_is_as_even_as_rows_allow() -> None:
    shares = plan([tensor("wide", 10, 1_000_000)], [0] * 4)
    assert sorted(share.pieces[0].rows.length for share in shares if share.pieces[0].rows) == [2, 2, 3, 3]


def test_fewer_rows_than_workers_leave_workers_without_a_share() -> None:
    shares = plan([tensor("wide", 3, 1_000_000)], [0] * 8)
    assert sorted(len(share.pieces) for share in shares) == [0] * 5 + [1] * 3


def test_a_worker_that_has_much_of_its_own_gets_less_of_the_rest() -> None:
    shares = plan([tensor(f"t{n}", 250) for n in range(10)], [6000, 0])
    assert [share.size_bytes for share in shares] == [2000, 8000]


def test_a_worker_with_more_than_its_share_of_its_own_gets_no_slice() -> None:
    shares = plan([tensor("embedding", 4000)], [9000, 0, 0])
    assert [share.size_bytes for share in shares] == [0, 8000, 8000]


def test_nearly_equal_loads_do_not_cost_another_slice() -> None:
    own = [0, 0, 990]
    shares = plan([tensor("embedding", 500)], own)
    assert [len(share.pieces) for share in shares] == [1, 1, 0]


def test_the_parts_of_one_tensor_stay_together() -> None:
    parts = [TensorSpec("sharded", FLOAT32, (8, 2), 32, (Extent(start, 4), Extent(0, 2))) for start in (0, 4)]
    pieces = [piece for share in plan(parts, [0, 0]) for piece in share.pieces]
    assert [(piece.tensor, piece.size_bytes, piece.rows) for piece in pieces] == [("sharded", 64, None)]


def test_a_tensor_that_is_there_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="tensor t is there twice"):
        plan([tensor("t", 4), tensor("t", 4)], [0])


def test_an_empty_model_is_an_empty_plan() -> None:
    assert plan([], [0, 0]) == (Share(0, ()), Share(1, ()))


def test_a_hundred_thousand_tensors_have_a_plan() -> None:
    shares = plan([tensor(f"t{n}", n % 97) for n in range(100_000)], [0] * 64)
    assert sum(len(share.pieces) for share in shares) == 100_000


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ([tensor("a", 2)], "tensor b is missing on worker 1 (worker 0 has it)"),
        ([tensor("a", 2), tensor("b", 3), tensor("aa")], "tensor aa is missing on worker 0 (worker 1 has it)"),
        ([tensor("a", 2), tensor("b", 4)], "tensor b is float32 3 (12 bytes) on worker 0 and float32 4 (16 bytes) on"),
        ([tensor("a", 2, dtype=INT64), tensor("b", 9)], "tensor a is float32 2 (8 bytes) on worker 0 and int64 2"),
    ],
)
def test_the_first_difference_is_named(other: list[TensorSpec], told: str) -> None:
    one = [tensor("b", 3), tensor("a", 2)]
    assert specs_digest(one) != specs_digest(other)
    assert first_difference(one, other, ("worker 0", "worker 1")).startswith(told)
