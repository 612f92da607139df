"""Why a checkpoint is kept: the reasons are retention's own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from distckpt.journal.holding import Holder
from distckpt.model import Checkpoint
from distckpt.observe.retained import kept_checkpoints, leases_in
from distckpt.protocol.retention import (
    AnyOf,
    KeepBest,
    KeepEvery,
    KeepLatest,
    Policy,
    Sparing,
    policy_from,
    select_retired,
)
from distckpt.storage.posix import PosixStorage

MADE = [
    Checkpoint(f"ckpt-{step}", step, float(step), 1, metrics={"loss": loss}, preserved=step == 10)
    for step, loss in ((10, 3.0), (20, 1.0), (30, math.nan), (40, 2.0))
]
policies = st.recursive(
    st.builds(KeepLatest, st.none() | st.integers(1, 4))
    | st.builds(KeepBest, st.just("loss"), st.sampled_from(["min", "max"]), st.integers(1, 3))
    | st.builds(KeepEvery, st.integers(1, 30)),
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(lambda each: AnyOf(*each)),
    max_leaves=4,
)


def test_every_reason_is_named() -> None:
    policy = AnyOf(KeepLatest(2), KeepBest("loss", "min"), KeepEvery(steps=20))
    assert [view.kept for view in kept_checkpoints(MADE, policy, ())] == [
        ("preserved for good",),
        ("the best by loss (min)", "one every 20 steps"),
        ("one of the last 2",),
        ("the newest", "one of the last 2", "one every 20 steps"),
    ]


def test_a_function_of_the_user_s_is_named_and_never_called() -> None:
    def choose_wisely(_: Any) -> Any:
        raise AssertionError("retention calls it, once for each commit")

    policy = policy_from(choose_wisely)
    assert [view.kept for view in kept_checkpoints(MADE, policy, ())] == [
        ("preserved for good",),
        ("left by choose_wisely",),
        ("left by choose_wisely",),
        ("the newest", "left by choose_wisely"),
    ]
    both = kept_checkpoints(MADE, AnyOf(KeepLatest(2), choose_wisely), ())
    assert [view.kept for view in both[1:3]] == [("left by choose_wisely",), ("one of the last 2",)]


def test_what_another_manager_wrote_is_its_own() -> None:
    policy = Sparing(KeepLatest(1), frozenset({"ckpt-"}), frozenset({"ckpt-20"}))
    mine = [*MADE, Checkpoint("best-1", 1, 50.0, 1)]
    views = {view.name: view.kept for view in kept_checkpoints(mine, policy, ())}
    assert views["ckpt-30"] == views["ckpt-40"] == ("of another CheckpointManager",)
    assert views["ckpt-20"] == ()
    assert views["best-1"] == ("the newest", "the last")


@settings(deadline=None)
@given(policies)
def test_what_retention_removes_has_no_reason_and_what_it_leaves_has_one(policy: Policy) -> None:
    active = [each for each in MADE if not each.preserved]
    retired = select_retired(active, policy, ())
    assert {view.name for view in kept_checkpoints(MADE, policy, ()) if not view.kept} == set(retired)


def test_a_reader_is_a_reason_as_long_as_it_reads(tmp_path: Path) -> None:
    storage = PosixStorage.create(tmp_path)
    with Holder(storage) as holder:
        holder.narrow(MADE[1])
        reasons = [view.kept for view in kept_checkpoints(MADE, None, leases_in(storage))]
    assert reasons[2] == ()
    assert reasons[1][0].startswith("being read by pid ")
    assert leases_in(storage) == ()


def test_a_metric_that_is_no_number_is_none() -> None:
    assert kept_checkpoints(MADE, None, ())[2].metrics == {"loss": None}


def test_a_file_that_is_no_lease_is_no_reason(tmp_path: Path) -> None:
    storage = PosixStorage.create(tmp_path)
    storage.put(".distckpt/leases/broken.json", b"{")
    assert leases_in(storage) == ()
