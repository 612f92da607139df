"""Retention: what a policy keeps stays, the newest and the leased stay always."""

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distckpt.errors import ConfigurationError
from distckpt.model import Checkpoint
from distckpt.protocol.retention import (
    AnyOf,
    Chooser,
    KeepBest,
    KeepEvery,
    KeepLatest,
    Policy,
    Preservation,
    Sparing,
    policy_from,
    select_retired,
)


def history(*losses: float | None) -> list[Checkpoint]:
    return [
        Checkpoint(f"c{n}", 10 * n, 60.0 * n, 1, metrics={} if loss is None else {"loss": loss})
        for n, loss in enumerate(losses)
    ]


def kept(policy: Policy, checkpoints: list[Checkpoint], *leased: str) -> list[str]:
    retired = select_retired(checkpoints, policy, leased)
    return [checkpoint.name for checkpoint in checkpoints if checkpoint.name not in retired]


FIVE = history(0.5, 0.1, 0.9, None, 0.1)


@pytest.mark.parametrize(
    ("policy", "names"),
    [
        (KeepLatest(2), ["c3", "c4"]),
        (KeepLatest(9), ["c0", "c1", "c2", "c3", "c4"]),
        (KeepLatest(None), ["c0", "c1", "c2", "c3", "c4"]),
        (KeepLatest(0), ["c4"]),
        (KeepBest("loss", "min"), ["c1", "c4"]),
        (KeepBest("loss", "max", 2), ["c0", "c2", "c4"]),
        (KeepBest("accuracy", "max", 2), ["c4"]),
        (KeepEvery(steps=20), ["c0", "c2", "c4"]),
        (KeepEvery(seconds=150.0), ["c0", "c3", "c4"]),
        (AnyOf(KeepLatest(1), KeepBest("loss", "min"), KeepEvery(steps=30)), ["c0", "c1", "c3", "c4"]),
        (policy_from(lambda given: given[:2]), ["c0", "c1", "c4"]),
        (policy_from(lambda given: (each for each in given if each.step % 20 == 0)), ["c0", "c2", "c4"]),
        (policy_from(lambda _: []), ["c4"]),
        (AnyOf(KeepLatest(2), lambda given: given[:1]), ["c0", "c3", "c4"]),
    ],
)
def test_a_policy_keeps_what_it_says(policy: Policy, names: list[str]) -> None:
    assert kept(policy, FIVE) == names


@pytest.mark.parametrize(
    ("choose", "told"),
    [
        (lambda given: given[99:][0], "failed: IndexError"),
        (lambda _: None, "failed: TypeError"),
        (lambda given: [each.name for each in given], "returned 'c0'"),
        (lambda _: [Checkpoint("c9", 90, 0.0, 1)], "returned Checkpoint"),
    ],
)
def test_a_function_that_fails_or_returns_anything_else_is_told_from_one_that_keeps_nothing(
    choose: Chooser, told: str
) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(told)):
        kept(policy_from(choose), FIVE)


def test_a_function_cannot_remove_what_is_leased_nor_change_what_it_was_given() -> None:
    assert kept(policy_from(lambda _: ()), FIVE, "c1") == ["c1", "c4"]
    given: list[Sequence[Checkpoint]] = []
    kept(policy_from(lambda all_: given.append(all_) or all_), FIVE)
    assert given == [tuple(FIVE)]


def test_what_is_neither_policy_nor_function_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="3 is neither a policy"):
        policy_from(3)  # type: ignore[arg-type]  # the mistake


def test_what_others_name_neither_goes_nor_counts() -> None:
    names = ("ckpt-1", "best-1", "ckpt-2", "best-2", "ckpt-3", "best-ckpt-4", "ckpt-5")
    mixed = [Checkpoint(name, number, 0.0, 1) for number, name in enumerate(names)]
    policy = Sparing(KeepLatest(2), frozenset({"best-", "ckpt"}), frozenset({"best-1"}))
    assert kept(policy, mixed) == ["best-2", "best-ckpt-4", "ckpt-5"]


def test_what_is_spared_takes_no_place_of_those_that_the_policy_is_for() -> None:
    mixed = [Checkpoint(name, 0, 0.0, 1) for name in ("ckpt-1", "ckpt-2", "best-3")]
    assert kept(Sparing(KeepLatest(2), frozenset({"best-"}), frozenset()), mixed) == ["ckpt-1", "ckpt-2", "best-3"]


def test_a_leased_checkpoint_is_kept_whatever_the_policy_says() -> None:
    assert kept(KeepLatest(1), FIVE, "c1") == ["c1", "c4"]


def test_a_metric_that_is_not_a_number_is_never_the_best() -> None:
    assert kept(KeepBest("loss", "min"), history(float("nan"), 0.3, 0.4)) == ["c1", "c2"]


def test_nothing_is_retired_where_there_is_nothing() -> None:
    assert select_retired([], KeepLatest(1), []) == ()


def test_every_needs_steps_or_seconds() -> None:
    with pytest.raises(ValueError, match="either steps or seconds"):
        KeepEvery()


@given(
    st.lists(st.none() | st.floats(), max_size=20),
    st.sampled_from([KeepLatest(0), KeepLatest(3), KeepBest("loss", "max", 2), KeepEvery(steps=25), AnyOf()]),
    st.sets(st.integers(0, 19)),
)
def test_the_newest_and_the_leased_always_stay(losses: list[float | None], policy: Policy, leased: set[int]) -> None:
    checkpoints = history(*losses)
    stay = set(kept(policy, checkpoints, *(f"c{n}" for n in leased)))
    assert {c.name for c in checkpoints[-1:]} <= stay
    assert {f"c{n}" for n in leased if n < len(checkpoints)} <= stay


def test_of_what_leaves_one_is_preserved_every_so_many_hours_counted_from_the_last() -> None:
    leaving = [(f"c{hour}", 3600.0 * hour) for hour in (1, 2, 2.5, 4, 5)]
    assert Preservation(2).preserved(leaving, 0.0) == (("c2", "c4"), 4 * 3600.0)
    assert Preservation(2).preserved(leaving, 3600.0) == (("c4",), 4 * 3600.0)
    assert Preservation(1).preserved(leaving[:1], 0.0) == (("c1",), 3600.0)


@pytest.mark.parametrize("hours", [None, 0])
def test_without_hours_nothing_is_preserved(hours: float | None) -> None:
    assert Preservation(hours).preserved([("c", 1e9)], 0.0) == ((), 0.0)
