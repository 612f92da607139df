"""The simulation finds what it is there to find: each test breaks one rule, and it is caught within a few schedules."""

import math
from typing import Any

import pytest
import xxhash
from simulated.checker import Violation
from simulated.faults import ONLY_KILLS
from simulated.world import run

from distckpt.commit import committer
from distckpt.journal.log import Journal
from distckpt.journal.names import slot_key
from distckpt.journal.records import Entry
from distckpt.model import Cause, Checkpoint
from distckpt.protocol.agent import Agent
from distckpt.protocol.agent_ceiling import Ceilings
from distckpt.protocol.agent_save import Saving
from distckpt.protocol.effects import Discard
from distckpt.protocol.events import JournalSeen
from distckpt.protocol.messages import Committed, Written
from distckpt.protocol.proposal import Proposal, Proposals
from distckpt.protocol.requests import Request, Stage
from distckpt.protocol.retention import select_retired
from distckpt.protocol.rounds import Rounds
from distckpt.protocol.salvage import Salvages
from distckpt.protocol.save_round import SaveRound
from distckpt.protocol.shares import Shares
from distckpt.protocol.takeover import Takeover

SEEDS = 1000


def violation(**emphasis: Any) -> str:
    """The first one that is found."""
    for seed in range(SEEDS):
        try:
            run(seed, **emphasis)
        except Violation as found:
            return str(found).splitlines()[0]
    return f"none in {SEEDS} schedules"


def test_shards_of_another_round_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_save(self: Rounds, _number: int) -> SaveRound | None:
        return self.current if isinstance(self.current, SaveRound) else None

    monkeypatch.setattr(Rounds, "_open_save", open_save)
    monkeypatch.setattr(SaveRound, "_compare", lambda *_: [])  # their values differ: that is caught before
    found = violation(slow=0.4, repeat=0.3, write_failed=0.3, write_slow=0.5, crash=0.0, heal_at=30.0)
    assert "I1" in found or "it is missing" in found, "in the checkpoint, or before: that shard had other tensors"


def test_a_link_to_what_has_changed_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xxhash, "xxh3_128_digest", lambda _: b"the same")
    assert "mirrored variables differ" in violation(), "what the others hold is another content"
    monkeypatch.setattr(SaveRound, "_compare", lambda *_: [])
    assert "I1" in violation()


def test_workers_at_different_steps_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SaveRound, "_check_same_step", lambda *_: None)
    monkeypatch.setattr(SaveRound, "_compare", lambda *_: [])  # their values differ: that is caught before
    found = violation()  # in the checkpoint, or first by whoever is told of another's step
    assert "I1" in found or "I6" in found


def test_a_journal_without_fencing_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def place(self: Journal, entry: Entry, data: bytes) -> None:
        self._storage.put(slot_key(entry.slot), data)

    monkeypatch.setattr(Journal, "_place", place)
    found = violation(zombie=1.0, stall=0.05)
    # Two chiefs that both believe in their generation decide one round twice, before any commit shows it, or wait for
    # each other.
    assert any(what in found for what in ("I2", "I3", "CorruptJournal", "two decisions", "did not save"))


def test_a_guess_in_place_of_an_unknown_outcome_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Saving.give_up

    def guess(self: Saving, cause: Cause) -> None:
        current = self.current
        if current is not None and current.stage is Stage.WRITTEN:
            step = current.announce.step
            made = Checkpoint(f"ckpt-{step}", step, 0.0, self._outbox.me.generation)
            self._resolve(current, Committed(current.round, current.ordinal, made))
        else:
            honest(self, cause)

    monkeypatch.setattr(Saving, "give_up", guess)
    assert "I2" in violation()


def test_a_shard_thrown_away_after_it_was_handed_in_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Saving.give_up

    def throw_away(self: Saving, cause: Cause) -> None:
        ended = self.current.ended.values() if self.current is not None else ()
        for message in ended:
            if isinstance(message, Written):
                self._outbox.do(Discard(message.round, (message.shard.handle,)))
        honest(self, cause)

    monkeypatch.setattr(Saving, "give_up", throw_away)
    assert "I2" in violation()


def test_a_share_that_counts_beside_those_who_wrote_it_again_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shares, "chosen", lambda self: dict(self.shards))
    assert "overlap" in violation(write_slow=0.5, world_size=3)


def test_a_share_that_counts_before_all_its_parts_are_in_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    settled = property(lambda self: all(map(self.is_settled, range(self.workers))))
    monkeypatch.setattr(Shares, "is_complete", settled)
    monkeypatch.setattr(Shares, "chosen", lambda self: dict(self.shards))
    found = violation(write_slow=0.5, world_size=3)
    assert "its slices" in found or "it is missing" in found


def test_a_survivor_that_believes_that_another_commits_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def believe(self: Takeover, event: JournalSeen) -> None:
        step = int(self._name.removeprefix("ckpt-"))
        self._end(Checkpoint(self._name, step, 0.0, event.generation or 0), "somebody has taken over")

    monkeypatch.setattr(Takeover, "_changed", believe)
    found = violation(restart_s=15.0)
    assert "I2" in found or "I3" in found


def test_a_loss_that_nobody_notices_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Salvages, "lost", lambda _: None)
    faults = {**ONLY_KILLS, "kills": (5.0,), "snapshot_every": 1, "world_size": 3}
    assert "was kept by all survivors" in violation(**faults)


def test_a_wait_without_an_end_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Agent, "_unreachable_at", lambda *_: math.inf)
    monkeypatch.setattr(Request, "give_up_at", property(lambda _: math.inf))
    assert "I5" in violation()


def test_a_step_that_some_worker_may_have_passed_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def decide_too_low(self: Proposals, current: Proposal) -> None:
        current.ceilings = dict.fromkeys(current.ceilings, min(current.ceilings.values()) - 2)
        honest(self, current)

    honest = Proposals._decide
    monkeypatch.setattr(Proposals, "_decide", decide_too_low)
    assert "a wish without trouble" in violation(world_size=2)


def test_a_wish_without_an_answer_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Proposals, "_answer", lambda *_: None)
    monkeypatch.setattr(Ceilings, "check_time", lambda *_: None)
    monkeypatch.setattr(Ceilings, "waits", ())
    assert "wish" in violation()


def test_a_training_that_is_held_for_ever_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ceilings, "check_time", lambda *_: None)
    monkeypatch.setattr(Ceilings, "waits", ())
    monkeypatch.setattr(Ceilings, "withdraw", lambda *_: None)
    assert "I5" in violation(cut=0.15, loss=0.3)


def test_retention_that_removes_the_newest_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer, "select_retired", lambda live, *_: tuple(each.name for each in live))
    assert "I4" in violation()


def test_retention_that_forgets_the_leases_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer, "select_retired", lambda live, policy, _: select_retired(live, policy, ()))
    assert "I4" in violation(stall=0.0, crash=0.0)
