"""Thousands of schedules of one job under faults: DESIGN's invariants hold in each.

DISTCKPT_SIM_SCHEDULES=n runs n of them; DISTCKPT_SIM_SEED=s replays the one with seed s, whose story a failure prints.
In parts, so that several processes can run them.
"""

import os
from collections.abc import Iterable

import pytest
from simulated.faults import ONLY_KILLS
from simulated.world import World, run

SCHEDULES = int(os.environ.get("DISTCKPT_SIM_SCHEDULES", "5000"))
REPLAYED = os.environ.get("DISTCKPT_SIM_SEED")
PARTS = [range(part, SCHEDULES, 16) for part in range(16)] if REPLAYED is None else [[int(REPLAYED)]]


@pytest.mark.timeout(0)  # as long as the number of schedules takes
@pytest.mark.parametrize("seeds", PARTS)
def test_no_schedule_of_faults_breaks_an_invariant(seeds: Iterable[int]) -> None:
    for seed in seeds:
        run(seed)


@pytest.mark.parametrize("workers", [2, 3])
def test_what_all_survivors_had_kept_is_committed_when_a_worker_is_killed_between_saves(workers: int) -> None:
    salvaged = 0
    for seed in range(30):
        world = World(seed, **ONLY_KILLS, world_size=workers, snapshot_every=1 + seed % 2, kills=(3 + seed / 20,))
        world.run()
        salvaged += any("salvage of step" in line and ": ckpt-" in line for line in world.story)
    assert salvaged > 10, "most of them tell of it"


def test_a_schedule_replays_exactly_from_its_seed() -> None:
    first, second = World(11), World(11)
    first.run()
    second.run()
    assert list(first.story) == list(second.story)
    assert first.now == second.now
