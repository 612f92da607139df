"""Shares follow the workers' speed: a slow one gets less, equal ones the same, and nothing jumps about. No clock runs:
a worker of a given speed takes its bytes divided by that.
"""

import hashlib
import random
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from staged.stage import Stage

from distckpt.model import Cause, DataFile, Shard, Share, Split, TensorSpec
from distckpt.protocol import speeds
from distckpt.protocol.plan import plan
from distckpt.protocol.shares import Shares
from distckpt.protocol.speeds import FACTOR, SAVES, Speeds, Writing

FLOAT32 = 1
MIB = 1 << 20
GOAL = 1.2
"""A save takes at most so much longer than the summed bandwidth allows."""


def tensor(name: str, rows: int, columns: int = 256) -> TensorSpec:
    return TensorSpec(name, FLOAT32, (rows, columns), 4 * rows * columns, divisible=True)


LAYERS = [tensor(f"layer{n}", 1024) for n in range(300)]
EMBEDDING = [tensor("embedding", 300_007), *LAYERS[:20]]


def save(known: Speeds, specs: Sequence[TensorSpec], speed: Sequence[float]) -> float:
    """One save by workers that write `speed` bytes a second. Returns how many times as long as possible it took."""
    shares = plan(specs, [0] * len(speed), (), known.weights)
    seconds = [share.size_bytes / fast for share, fast in zip(shares, speed, strict=True)]
    known.measure([Writing(share.worker, share.size_bytes, took) for share, took in zip(shares, seconds, strict=True)])
    ideal = sum(spec.size_bytes for spec in specs) / sum(speed)
    return max(seconds) / ideal


@pytest.mark.parametrize("workers", [2, 3, 4, 8, 64])
@pytest.mark.parametrize("specs", [LAYERS, EMBEDDING], ids=["layers", "embedding"])
def test_with_one_worker_of_a_quarter_of_the_speed_a_save_takes_hardly_longer_than_the_summed_speed_allows(
    specs: list[TensorSpec], workers: int
) -> None:
    known = Speeds(workers)
    speed = [100.0 * MIB] * (workers - 1) + [25.0 * MIB]
    first = save(known, specs, [each / 20 for each in speed])  # at even shares the slow one holds all up
    assert first > (1.5 if workers == 2 else 2.5)
    for _ in range(SAVES):
        save(known, specs, [each / 20 for each in speed])
    weights = known.weights
    assert save(known, specs, [each / 20 for each in speed]) <= GOAL
    assert known.weights == weights == (64,) * (workers - 1) + (16,)


def noisy(known: Speeds, speed: Sequence[float], noise: random.Random) -> None:
    """One save of evenly made tensors, each worker up to 15 % faster or slower than it is."""
    weights = known.weights or (64,) * len(speed)
    took = [weight * MIB / (fast * noise.uniform(0.85, 1.15)) for weight, fast in zip(weights, speed, strict=True)]
    known.measure([Writing(worker, weights[worker] * MIB, seconds) for worker, seconds in enumerate(took)])


@given(st.randoms(use_true_random=False), st.integers(2, 40))
def test_equal_workers_keep_equal_shares_whatever_the_noise(noise: random.Random, workers: int) -> None:
    known = Speeds(workers)
    for _ in range(20):
        noisy(known, [10.0 * MIB] * workers, noise)
        assert known.weights == ()


@given(st.randoms(use_true_random=False))
def test_weights_that_have_been_found_stay_under_noise(noise: random.Random) -> None:
    known = Speeds(4)
    speed = [100.0, 100.0, 25.0, 50.0]
    for _ in range(SAVES):
        known.measure([Writing(worker, MIB, MIB / fast) for worker, fast in enumerate(speed)])
    assert known.weights == (64, 64, 16, 32)
    for _ in range(20):
        noisy(known, speed, noise)
        assert known.weights == (64, 64, 16, 32)


def test_one_slow_save_changes_nothing() -> None:
    known = Speeds(2)
    for number in range(20):
        save(known, LAYERS, [100.0, 2.0 if number % 3 == 0 else 100.0])
        assert known.weights == ()


def test_a_difference_below_the_stated_factor_changes_nothing() -> None:
    known = Speeds(2)
    for _ in range(10):
        save(known, LAYERS, [100.0, 100.0 / (FACTOR - 0.01)])
    assert known.weights == ()


def test_a_worker_that_is_fast_again_gets_its_whole_share_again() -> None:
    known = Speeds(3)
    for _ in range(SAVES):
        save(known, LAYERS, [100.0, 100.0, 10.0])
    assert known.weights
    for _ in range(2 * SAVES):
        save(known, LAYERS, [100.0, 100.0, 100.0])
    assert known.weights == ()


def test_a_worker_is_never_taken_for_more_than_sixteen_times_slower() -> None:
    known = Speeds(2)
    for _ in range(10):
        save(known, LAYERS, [1000.0, 1.0])
    assert known.weights == (64, 4)


def test_saves_that_are_over_at_once_say_nothing_about_speed() -> None:
    known = Speeds(2)
    for _ in range(10):
        known.measure([Writing(0, 64 * MIB, 0.01), Writing(1, 64 * MIB, speeds.SECONDS_MIN - 0.01)])
        known.measure([Writing(0, 100, 0.01), Writing(1, 100, 5.0)])
    assert known.weights == ()


def test_a_slow_worker_that_had_nothing_to_write_for_a_while_is_tried_again() -> None:
    known = Speeds(2)
    for _ in range(SAVES):
        save(known, LAYERS, [100.0, 10.0])
    assert known.weights
    for _ in range(SAVES):
        known.measure([Writing(0, 4 * MIB, 1.0), Writing(1, 0, 0.0)])
    assert known.weights == ()


def test_a_save_that_linked_something_says_nothing_about_speed() -> None:
    shares = Shares(2, 0.0)
    shares.hand_in(0, Shard(0, "1/a", 8, (), frozen=DataFile("1/a-frozen", 800, (), linked=True)), 1.0)
    shares.hand_in(1, Shard(1, "1/b", 808, ()), 4.0)
    assert shares.writings(4.0) == []


# --------------------------------------------------------------------------------------------------------- in the plan


def loads(shares: Sequence[Share], own: Sequence[int]) -> list[int]:
    return [share.size_bytes + extra for share, extra in zip(shares, own, strict=True)]


models = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 50)), max_size=40).map(
    lambda shapes: [tensor(f"t{n}", *shape) for n, shape in enumerate(shapes)]
)
weighted = st.lists(st.tuples(st.integers(0, 20_000), st.integers(1, 64)), min_size=1, max_size=12)


@given(models, weighted, st.randoms(use_true_random=False))
def test_a_weighted_plan_holds_every_tensor_once_and_is_the_same_on_every_worker(
    specs: list[TensorSpec], workers: list[tuple[int, int]], order: random.Random
) -> None:
    own, weights = [list(column) for column in zip(*workers, strict=True)]
    splits = [Split(0, tuple(range(len(own))))]
    shares = plan(specs, own, splits, weights)
    for numbers in (range(len(own)), range(1, len(shares))):  # share 0 itself, or its parts
        held: dict[str, int] = {}
        for piece in (piece for number in numbers for piece in shares[number].pieces):
            held[piece.tensor] = held.get(piece.tensor, 0) + piece.size_bytes
        assert held == {spec.name: spec.size_bytes for spec in specs}
    order.shuffle(specs)
    assert plan(specs, own, splits, weights) == shares


@example([tensor("t0", 3, 1)], [(0, 1), (0, 1), (0, 1), (0, 4)])  # all three rows are sooner written by the fast one
@given(models, weighted)
def test_a_worker_is_loaded_by_its_weight_but_for_one_thing_that_could_not_be_cut(
    specs: list[TensorSpec], workers: list[tuple[int, int]]
) -> None:
    own, weights = [list(column) for column in zip(*workers, strict=True)]
    total = sum(own) + sum(spec.size_bytes for spec in specs)
    largest = max((spec.size_bytes for spec in specs if spec.size_bytes * len(own) <= total), default=0)
    rows = max((spec.size_bytes // spec.shape[0] for spec in specs), default=0)
    for load, extra, weight in zip(loads(plan(specs, own, (), weights), own), own, weights, strict=True):
        fair = total * weight / sum(weights)
        # Whoever took the last thing would have been no sooner done without it on any other worker: summed over these.
        one_thing = max(largest, rows) * max(1.0, len(own) * weight / sum(weights))
        assert load <= max(extra, fair * 1.02 + one_thing + 1)


def test_what_is_written_for_another_follows_the_weights_of_those_who_do() -> None:
    shares = plan([tensor("embedding", 9000, 1)], [0, 0, 0], [Split(2, (0, 1))], [64, 16, 64])
    assert [share.size_bytes for share in shares] == [16_000, 4000, 16_000, 12_800, 3200]


@given(models, st.lists(st.integers(0, 20_000), min_size=1, max_size=12), st.integers(1, 64))
def test_equal_weights_are_no_weights(specs: list[TensorSpec], own: list[int], weight: int) -> None:
    splits = [Split(0, tuple(range(len(own))))]
    assert plan(specs, own, splits, [weight] * len(own)) == plan(specs, own, splits)


@pytest.mark.parametrize(
    ("own", "splits", "digest"),
    [
        ([0, 0, 0], (), "72a5485dde7e23144fed9eddf0b69937786ddabbfa04b8fcf46f2b09caf8884a"),
        (
            [5000, 0, 70_000, 0],
            (Split(3, (0, 1, 2)),),
            "84934398e953b8e693fff17edad1e7d882dc48a37241d795effd0714e21c734a",
        ),
    ],
)
def test_without_weights_the_plan_is_the_one_of_the_versions_before_weights(
    own: list[int], splits: tuple[Split, ...], digest: str
) -> None:
    embedding = tensor("embedding", 1003, 64)
    specs = [embedding, *(tensor(f"dense{n}", 17 + n, 32) for n in range(40)), TensorSpec("step", 9, (), 8)]
    assert hashlib.sha256(repr(plan(specs, own, splits)).encode()).hexdigest() == digest


@pytest.mark.parametrize("weights", [[1], [1, 0], [1, -1]])
def test_weights_that_do_not_fit_the_workers_are_refused(weights: list[int]) -> None:
    with pytest.raises(ValueError, match="one for each, at least 1"):
        plan(LAYERS, [0, 0], (), weights)


# --------------------------------------------------------------------------------------------------------- in the save


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Three workers, whose shards of 8 bytes count as large."""
    monkeypatch.setattr(speeds, "MEAN_BYTES_MIN", 1)
    return Stage(3).start_all()


def save_all(stage: Stage, step: int, slow: int | None = None) -> None:
    """Worker `slow` takes four times as long as the others."""
    for worker in range(3):
        stage.save(worker, step)
    stage.wait(1.0)
    for worker in range(3):
        if worker != slow:
            stage.write(worker)
    stage.wait(3.0)
    stage.write_all()
    stage.commit()


def weights_of(stage: Stage) -> set[tuple[int, ...]]:
    return {asked.weights for writes in stage.writes.values() for asked in writes}


def test_what_was_measured_weighs_from_the_next_save_on_and_is_the_same_on_all(stage: Stage) -> None:
    for number in range(SAVES):
        save_all(stage, 100 + number, slow=1)
    for worker in range(3):
        stage.save(worker, 200)
    assert weights_of(stage) == {(64, 16, 64)}


def test_who_takes_over_and_who_comes_back_plan_by_the_same_weights(stage: Stage) -> None:
    for number in range(SAVES):
        save_all(stage, 100 + number, slow=1)
    for worker in range(3):
        stage.save(worker, 200)
    stage.kill(2)
    stage.wait(3.0)
    assert [asked.share for asked in stage.writes[0]] == [0, 3]
    stage.start(2, "w2-again")
    stage.save(2, 200)
    assert weights_of(stage) == {(64, 16, 64)}


def test_a_worker_whose_share_others_had_to_write_is_known_to_be_slow(stage: Stage) -> None:
    for step in range(100, 100 + SAVES):
        for worker in range(3):
            stage.save(worker, step)
        stage.wait(10.0)
        stage.write(0)
        stage.write(1)
        stage.wait(100.0)  # worker 2 is late: the others write its share
        stage.write(0)
        stage.write(1)
        stage.commit()
        stage.write(2)
    stage.save(0, 200)
    stage.save(1, 200)
    stage.save(2, 200)
    ((first, second, third),) = weights_of(stage)
    assert first == second > third


def test_a_worker_that_was_lost_or_could_not_write_is_not_taken_for_slow(stage: Stage) -> None:
    for step in range(100, 105):
        for worker in range(3):
            stage.save(worker, step)
        stage.fail_share(2, Cause("StorageFull", "no space", 2))
        stage.wait(5.0)
        stage.write_all()
        stage.commit()
    for worker in range(3):
        stage.save(worker, 200)
    assert weights_of(stage) == {()}
