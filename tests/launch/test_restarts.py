"""The budget of restarts."""

import pytest

from distckpt.launch.restarts import BACKOFF_MAX_S, PREEMPTED, RestartPolicy, Restarts


def restarts_of(policy: RestartPolicy, lived_s: float, count: int, workers: int = 4) -> list[tuple[float, int] | None]:
    """(wait, workers) of each of `count` failures in a row; None where the job was given up."""
    restarts = Restarts(policy, workers)
    found = [restarts.after(lived_s, 1) for _ in range(count)]
    return [None if each is None else (each.after_s, each.workers) for each in found]


def test_a_job_that_always_fails_is_given_up() -> None:
    assert restarts_of(RestartPolicy(2), lived_s=1, count=3) == [(0, 4), (0, 4), None]
    assert restarts_of(RestartPolicy(), lived_s=1, count=1) == [None]


def test_a_start_that_was_healthy_for_long_gives_the_budget_back() -> None:
    policy = RestartPolicy(1, healthy_after_s=600, backoff_s=1)
    assert restarts_of(policy, lived_s=600, count=50) == [(0, 4)] * 50
    restarts = Restarts(policy, 4)
    assert restarts.after(599, 1) is not None
    assert restarts.after(599, 1) is None


def test_each_restart_in_a_row_waits_longer_up_to_a_minute() -> None:
    waits = [each and each[0] for each in restarts_of(RestartPolicy(2_000, backoff_s=1), lived_s=1, count=2_000)]
    assert waits[:8] == [0, 1, 2, 4, 8, 16, 32, BACKOFF_MAX_S]
    assert waits[-1] == BACKOFF_MAX_S


def test_a_job_that_fails_again_goes_on_with_fewer_workers() -> None:
    found = restarts_of(RestartPolicy(5, min_workers=2), lived_s=1, count=5)
    assert [each and each[1] for each in found] == [4, 3, 2, 2, 2]


def test_the_number_of_workers_is_told_when_it_changes() -> None:
    restarts = Restarts(RestartPolicy(9, min_workers=1), 2)
    told = [restart.why for _ in range(3) if (restart := restarts.after(1, 1))]
    assert told == ["restart 1 of 9", "restart 2 of 9, with 1 worker", "restart 3 of 9"]


@pytest.mark.parametrize("lived_s", [1.0, 10_000.0])
def test_a_preempted_start_costs_nothing(lived_s: float) -> None:
    restarts = Restarts(RestartPolicy(1, backoff_s=1, min_workers=1), 4)
    for _ in range(20):
        restart = restarts.after(lived_s, PREEMPTED)
        assert restart is not None
        assert (restart.after_s, restart.workers) == (0, 4)
    assert restarts.after(1, 1) is not None
    assert restarts.after(1, 1) is None


def test_who_wants_no_restart_gets_none_after_a_preemption_either() -> None:
    assert Restarts(RestartPolicy(), 2).after(1, PREEMPTED) is None
