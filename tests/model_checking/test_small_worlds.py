"""Every state of a small job: real coordinators, agents and journals; every order of every message; deaths anywhere.

In each state: nobody was told of a commit that does not stand (I2), nobody was told that nothing was committed where a
commit stands, what is committed was not discarded, all its shards are of one step (I1), and the journal is one legal
history (I3). Where snapshots of the ends of steps are kept: what is salvaged is newer than every commit before, all who
write it have kept it, and the newest that all have is there while it may be needed. The worlds that `make model`
searches, and how large they are, stand in docs/reliability.md.
"""

from __future__ import annotations

import os

import pytest
from checking.processes import Broken
from checking.search import Bounds, Found, Search

from distckpt.commit.succession import Succession
from distckpt.journal.log import Journal
from distckpt.model import Cause
from distckpt.protocol import agent_salvage
from distckpt.protocol.agent_salvage import Keeping
from distckpt.protocol.agent_save import Saving
from distckpt.protocol.effects import Discard, SaveKept
from distckpt.protocol.membership import Member
from distckpt.protocol.messages import Written
from distckpt.protocol.outcomes import Outcomes
from distckpt.protocol.rounds import Rounds
from distckpt.protocol.salvage import Salvages
from distckpt.protocol.save_round import SaveRound

STATES_MAX = int(os.environ.get("DISTCKPT_MODEL_STATES", "20000"))
"""Where a search is given up. `make model` sets it, and searches the larger worlds too."""

SMALL = {
    "3 workers, 1 save, a successor": Bounds(workers=3, steps=1, faults=0),
    "2 workers, 2 saves, a successor": Bounds(workers=2, steps=2, faults=0),
    "2 workers, 1 save, a successor, 1 fault": Bounds(workers=2, steps=1, faults=1),
    "2 workers, the save of a step that stands from before": Bounds(workers=2, steps=1, faults=0, before=1),
}
LARGE = {
    "3 workers, 2 saves, a successor": Bounds(workers=3, steps=2, faults=0),
    "2 workers, 1 save, a successor, 2 faults": Bounds(workers=2, steps=1, faults=2),
    "2 workers, 2 saves, a successor, 1 fault": Bounds(workers=2, steps=2, faults=1),
    "3 workers, 1 save, a successor, 1 fault": Bounds(workers=3, steps=1, faults=1),
    "2 chiefs, 2 workers each, 1 save each": Bounds(workers=2, steps=1, faults=0, generations=2),
}

KEEPING = {
    "2 workers keep the end of 1 step, a successor, 1 fault": Bounds(workers=2, steps=0, faults=1, ends=1),
    "2 workers keep what is older than what stands, 1 fault": Bounds(workers=2, steps=0, faults=1, ends=1, before=2),
    "2 workers keep the ends of 2 steps, and part": Bounds(workers=2, steps=0, faults=0, ends=2, parts=True),
    "2 workers keep every other end of 5 steps": Bounds(workers=2, steps=0, faults=0, ends=5, every=2),
}
SALVAGED = {"the chief has salvaged", "a survivor has salvaged"}
KEEPING_LARGE = {
    "2 workers keep the ends of 2 steps, a successor, 1 fault": Bounds(workers=2, steps=0, faults=1, ends=2),
    "2 workers keep the ends of 2 steps, and part, 1 fault": Bounds(workers=2, steps=0, faults=1, ends=2, parts=True),
    "2 workers keep the ends of 2 steps, and save one, 1 fault": Bounds(workers=2, steps=1, faults=1, ends=2),
    "3 workers keep the end of 1 step, a successor, 1 fault": Bounds(workers=3, steps=0, faults=1, ends=1),
    "2 workers keep the end of 1 step, a successor, 2 faults": Bounds(workers=2, steps=0, faults=2, ends=1),
}


def told(name: str, found: Found) -> str:
    rate = f"{found.states / max(found.seconds, 0.001):,.0f} a second"
    return f"{name}: {found.states:,} states, {found.transitions:,} transitions, depth {found.depth}, {rate}"


@pytest.mark.parametrize("name", SMALL)
def test_no_state_of_a_small_world_breaks_a_promise(name: str) -> None:
    found = Search(SMALL[name]).run(STATES_MAX)
    assert found.exhausted
    assert {"Committed", "Fenced"} <= found.told, "both ends are reached"
    print(told(name, found))  # noqa: T201 - `make model` shows it


@pytest.mark.parametrize("name", KEEPING)
def test_no_state_of_a_small_world_in_which_ends_of_steps_are_kept_breaks_a_promise(name: str) -> None:
    bounds = KEEPING[name]
    found = Search(bounds).run(STATES_MAX)
    assert found.exhausted
    assert found.told & SALVAGED == (SALVAGED if bounds.faults and not bounds.before else set()), "if it is needed"
    print(told(name, found))  # noqa: T201 - as above


@pytest.mark.timeout(0)  # as long as the number of states takes
@pytest.mark.skipif("DISTCKPT_MODEL_STATES" not in os.environ, reason="make model searches these: it takes long")
@pytest.mark.parametrize("name", LARGE | KEEPING_LARGE)
def test_no_state_of_a_larger_world_breaks_a_promise(name: str) -> None:
    found = Search((LARGE | KEEPING_LARGE)[name]).run(STATES_MAX)
    assert found.exhausted
    print(told(name, found))  # noqa: T201 - as above


def test_workers_at_different_steps_commit_nothing() -> None:
    found = Search(Bounds(workers=3, steps=1, faults=0, apart=True)).run(STATES_MAX)
    assert found.exhausted
    assert "StepMismatch" in found.told
    assert "Committed" not in found.told


# -------------------------------------------------------------------------------------- the search finds what is broken


def first_broken(bounds: Bounds) -> str:
    with pytest.raises(Broken) as caught:
        Search(bounds).run(STATES_MAX)
    return str(caught.value).splitlines()[0]


def test_workers_at_different_steps_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SaveRound, "_check_same_step", lambda *_: None)
    assert "is to write step 1" in first_broken(Bounds(workers=2, steps=1, faults=0, apart=True))


def test_a_guess_in_place_of_an_unknown_outcome_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def guess(self: Saving, cause: Cause) -> None:
        if self.current is not None:
            self._resolve(self.current, cause)

    monkeypatch.setattr(Saving, "give_up", guess)
    assert "and it is committed" in first_broken(Bounds(workers=2, steps=1, faults=1))


def test_a_shard_thrown_away_after_it_was_handed_in_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Saving.give_up

    def throw_away(self: Saving, cause: Cause) -> None:
        ended = () if self.current is None else self.current.ended.values()
        for written in ended:
            if isinstance(written, Written):
                self._outbox.do(Discard(written.round, (written.shard.handle,)))
        honest(self, cause)

    monkeypatch.setattr(Saving, "give_up", throw_away)
    assert "committed and discarded" in first_broken(Bounds(workers=2, steps=1, faults=1))


def test_a_round_given_up_while_its_commit_is_under_way_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SaveRound, "is_committing", property(lambda _: False))
    assert "committed" in first_broken(Bounds(workers=2, steps=1, faults=1))


def test_an_unknown_outcome_taken_for_an_abort_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rounds, "commit_failed", lambda self, event: self.abort(event.cause))
    assert "committed and discarded" in first_broken(Bounds(workers=2, steps=1, faults=1))


def test_a_journal_without_fencing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Journal, "_raise_fenced", lambda *_: None)
    assert "I2" in first_broken(Bounds(workers=2, steps=1, faults=0))


def test_a_late_shard_of_a_committed_round_that_is_discarded_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Outcomes, "is_useless", lambda *_: True)
    assert "committed and discarded" in first_broken(Bounds(workers=2, steps=1, faults=0))


def test_a_survivor_that_salvages_what_is_older_than_the_last_commit_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Succession.begin
    monkeypatch.setattr(Succession, "begin", lambda self, process, _: honest(self, process))
    assert "step 1 is salvaged after step 2" in first_broken(Bounds(workers=2, steps=0, faults=1, ends=1, before=2))


def test_a_coordinator_that_has_older_ones_salvaged_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def newest(_: Salvages, survivors: list[Member]) -> int | None:
        return max((step for member in survivors for step in member.kept), default=None)

    monkeypatch.setattr(Salvages, "_newest_common", newest)
    assert "step 1 is salvaged after step 2" in first_broken(Bounds(workers=2, steps=0, faults=1, ends=1, before=2))


def test_one_snapshot_where_two_are_to_be_kept_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_salvage, "KEPT_MAX", 1)
    assert "has let go of the end of step 1" in first_broken(Bounds(workers=2, steps=0, faults=0, ends=2))


def test_the_older_released_before_all_have_the_newer_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def progress(self: Keeping, step: int) -> None:
        self._release(kept for kept in self.steps if kept < step)

    monkeypatch.setattr(Keeping, "progress", progress)
    assert "has let go of the end of step 1" in first_broken(Bounds(workers=2, steps=0, faults=0, ends=2))


def test_a_worker_let_go_while_others_go_on_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Salvages, "all_may_go", True)
    broken = first_broken(Bounds(workers=2, steps=0, faults=0, ends=1, parts=True))
    assert "may go with the end of step 1 while others go on" in broken


def test_a_salvage_of_what_is_not_kept_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def salvage(self: Keeping, step: int) -> None:
        self.steps = tuple(kept for kept in self.steps if kept != step)
        self._outbox.do(SaveKept(step))

    monkeypatch.setattr(Keeping, "salvage", salvage)
    assert "which is not kept" in first_broken(Bounds(workers=2, steps=0, faults=1, ends=1))
