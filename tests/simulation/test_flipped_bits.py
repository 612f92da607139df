"""A worker whose memory loses a bit between capture and write is found before the commit, and its tensor is named.

The simulated job refuses such saves; without the check, the same bits are committed. That thousands of schedules
without such a bit see no false alarm is asserted in each of them (`Checker.refused`).
"""

import pytest
from simulated.checker import Violation
from simulated.world import World

from distckpt.protocol.save_round import SaveRound

SCHEDULES = 150
# What makes others write a share, or all of a save, is left out: that is not compared.
QUIET = {
    **dict.fromkeys(("write_slow", "write_failed", "crash", "stall", "cut", "capture_failed", "refused"), 0.0),
    **dict.fromkeys(("unclear", "corrupt", "lone_restart", "loss", "slow"), 0.0),
    **dict.fromkeys(("kills", "freezes", "full"), ()),
}


def run_all() -> list[World]:
    worlds = [World(seed, world_size=2 + seed % 3, flipped=0.05, **QUIET) for seed in range(SCHEDULES)]
    for world in worlds:
        world.run()
    return worlds


def test_no_flipped_bit_is_ever_committed_and_each_save_that_is_refused_names_its_tensor() -> None:
    worlds = run_all()
    flipped = sum(bool(world.checker.flipped) for world in worlds)
    assert flipped > SCHEDULES / 3
    assert sum(bool(world.checker.found) for world in worlds) > flipped / 2


def test_without_the_check_they_are_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SaveRound, "_compare", lambda *_: [])
    with pytest.raises(Violation, match="mixture"):
        run_all()
