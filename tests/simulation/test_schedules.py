"""Thousands of schedules of one job under faults: DESIGN's invariants hold in each.

DISTCKPT_SIM_SCHEDULES=n runs n of them; DISTCKPT_SIM_SEED=s replays the one with seed s, whose story a failure prints.
"""

import os

import pytest
from simulated.world import World, run

SCHEDULES = int(os.environ.get("DISTCKPT_SIM_SCHEDULES", "5000"))


@pytest.mark.timeout(0)  # as long as the number of schedules takes
def test_no_schedule_of_faults_breaks_an_invariant() -> None:
    replayed = os.environ.get("DISTCKPT_SIM_SEED")
    for seed in range(SCHEDULES) if replayed is None else [int(replayed)]:
        run(seed)


def test_a_schedule_replays_exactly_from_its_seed() -> None:
    first, second = World(11), World(11)
    first.run()
    second.run()
    assert list(first.story) == list(second.story)
    assert first.now == second.now
