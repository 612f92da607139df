"""A save commits if all workers are at it and have written; else all are told why, at once or by the deadline."""

import pytest
from staged.stage import DEADLINES, GENERATION, JOB, Stage

from distckpt.model import Cause, Shard, StagedState, TensorSpec
from distckpt.protocol import events
from distckpt.protocol.messages import (
    AgentEnvelope,
    Announce,
    Committed,
    Failed,
    Join,
    Sender,
    Written,
)


def spec(name: str, length: int = 4, dtype: int = 1) -> TensorSpec:
    return TensorSpec(name, dtype, (length,), 4 * length, divisible=True)


def kinds(stage: Stage) -> list[str]:
    return [stage.cause(worker).kind for worker in range(stage.workers)]


def test_a_commit_is_ordered_only_when_all_shards_are_in() -> None:
    stage = Stage(3).start_all()
    for worker in range(3):
        stage.save(worker)
    stage.write(0)
    stage.write(2)
    assert not stage.commits
    stage.write(1)
    assert [shard.worker for shard in stage.commits[0].shards] == [0, 1, 2]
    assert stage.commits[0].metrics == {"loss": 0.5}


def test_every_worker_hears_of_the_commit_and_lets_its_snapshot_go() -> None:
    stage = Stage(2).start_all()
    stage.save(0)
    stage.save(1)
    stage.write_all()
    stage.commit()
    assert all(isinstance(stage.outcomes[worker][0], Committed) for worker in (0, 1))
    assert stage.dropped == {0: [1], 1: [1]}
    assert [checkpoint.name for checkpoint in stage.coordinator.checkpoints] == ["ckpt-100"]


def test_different_names_at_the_same_step_are_a_mismatch_that_names_them() -> None:
    stage = Stage(2).start_all()
    stage.save(0)
    stage.save(1, name="model-100")
    assert kinds(stage) == ["StepMismatch", "StepMismatch"]
    assert "worker 1 saves checkpoint model-100" in stage.cause(0).message


def test_different_models_are_a_mismatch_that_names_the_first_tensor_that_differs() -> None:
    stage = Stage(3).start_all()
    stage.specs = {0: (spec("a"), spec("b")), 1: (spec("a"), spec("b", 5)), 2: (spec("a"), spec("b", 5))}
    stage.save(0, digest="x")
    stage.save(1, digest="y")
    stage.save(2, digest="y")
    assert kinds(stage) == ["ModelMismatch"] * 3
    message = stage.cause(2).message
    assert "tensor b is float32 4 (16 bytes) on worker 0 and float32 5 (20 bytes) on worker 1" in message


def test_a_model_that_is_not_described_by_the_deadline_is_still_a_mismatch() -> None:
    stage = Stage(2).start_all()
    stage.specs = {0: (spec("a"),)}
    stage.save(0, digest="x")
    ordinal = 1
    stage.cut.add(1)
    stage.say(1, Announce(ordinal, 100, "ckpt-100", "y", 0))
    for _ in range(int(DEADLINES.announce_s)):
        stage.say(1, Announce(ordinal, 100, "ckpt-100", "y", 0))
        stage.wait(1.0)
    assert stage.cause(0).kind == "ModelMismatch"
    assert "was not told by worker 1" in stage.cause(0).message


def test_a_worker_that_never_joined_is_named_with_the_join_deadline() -> None:
    stage = Stage(2)
    stage.start(0)
    stage.wait(DEADLINES.join_s - 10)
    stage.save(0)
    stage.wait(9.9)
    assert stage.outcomes[0] == []
    stage.wait(0.2)
    assert stage.cause(0).kind == "WorkerMissing"
    assert stage.cause(0).worker == 1
    assert "worker 1 (never joined)" in stage.cause(0).message


def test_a_worker_that_joins_just_in_time_has_the_whole_time_to_announce() -> None:
    stage = Stage(2)
    stage.start(0)
    stage.wait(DEADLINES.join_s - 10)
    stage.save(0)
    stage.wait(5)
    stage.start(1)
    stage.wait(DEADLINES.announce_s - 6)
    stage.save(1)
    stage.write_all()
    assert stage.commits


def test_a_save_that_only_some_of_those_who_are_left_announce_tells_who_was_lost() -> None:
    stage = Stage(3).start_all()
    stage.save(0)
    stage.cut.add(1)
    stage.wait(DEADLINES.silence_s + DEADLINES.disconnect_s + 1)
    assert stage.cause(0).kind == "WorkerLost"
    assert "worker 1 (10.0.0.1:2222, pid 1001; last heard of 17.0 s ago" in stage.cause(0).message


def test_a_connection_that_comes_back_in_time_loses_nobody() -> None:
    stage = Stage(2).start_all()
    stage.save(0)
    stage.decide(events.Disconnected(1, "w1"))
    stage.wait(10)
    assert stage.outcomes[0] == []


def test_a_worker_that_is_started_again_in_a_round_aborts_it_and_then_takes_part() -> None:
    stage = Stage(2).start_all()
    stage.save(0)
    stage.start(1, "w1-again")
    assert "has been started again" in stage.cause(0).message
    stage.save(0, 110)
    stage.save(1, 110)
    stage.write_all()
    assert stage.commits


def test_a_worker_that_leaves_in_a_round_aborts_it_with_its_cause() -> None:
    stage = Stage(2).start_all()
    stage.save(0)
    stage.happen(1, events.Stop(Cause("UnsupportedState", "a table", 1)))
    assert stage.cause(0).kind == "WorkerLost"
    assert "left 0.0 s ago because of UnsupportedState: a table" in stage.cause(0).message


def test_a_share_that_is_not_written_in_time_is_named() -> None:
    stage = Stage(2).start_all()
    stage.save(0)
    stage.save(1)
    stage.write(1)
    stage.wait(DEADLINES.write_s + 1)
    assert kinds(stage) == ["DeadlineExceeded", "DeadlineExceeded"]
    assert "not written 600.0 s after it was decided, by worker 0" in stage.cause(0).message
    assert stage.discarded == ["1/1-1"]


def test_a_commit_that_was_ordered_is_ended_by_no_timer_and_no_lost_worker() -> None:
    stage = Stage(2).start_all()
    stage.save(0)
    stage.save(1)
    stage.write_all()
    stage.kill(1)
    stage.decide(events.Stop())
    stage.wait(DEADLINES.commit_s)
    assert stage.outcomes[0] == []
    assert stage.coordinator.committing
    stage.commit()
    assert isinstance(stage.outcomes[0][0], Committed)


def test_a_failure_before_the_announcement_reaches_everyone_who_comes_later() -> None:
    stage = Stage(3).start_all()
    stage.happen(1, events.SaveFailedLocally(1, Cause("UnsupportedState", "a table cannot be read", 1)))
    stage.save(0)
    stage.save(2)
    assert stage.cause(0) == stage.cause(2) == Cause("UnsupportedState", "a table cannot be read", 1)


def test_a_failed_capture_reaches_everyone() -> None:
    stage = Stage(2).start_all()
    stage.save(0, captured=False)
    stage.save(1, captured=False)
    stage.happen(1, events.SaveFailedLocally(1, Cause("UnsupportedState", "a table cannot be read", 1)))
    assert kinds(stage) == ["UnsupportedState"] * 2
    stage.happen(0, events.Captured(1))
    assert stage.dropped == {0: [1], 1: []}
    assert not any(stage.writes.values())


def test_a_worker_that_gave_a_save_up_and_asks_for_another_aborts_the_first() -> None:
    stage = Stage(2).start_all()
    stage.save(0)
    stage.say(0, Announce(2, 110, "ckpt-110", "same", 0))
    assert "worker 0 gave it up" in stage.cause(0).message


def test_a_shard_that_is_not_its_senders_aborts_the_round() -> None:
    stage = Stage(2).start_all()
    stage.save(0)
    stage.save(1)
    stage.say(1, Written(1, 1, Shard(0, "1/forged", 8, ())))
    assert kinds(stage) == ["WriteFailed", "WriteFailed"]


def test_a_late_shard_of_an_aborted_round_is_answered_and_discarded() -> None:
    stage = Stage(2).start_all()
    stage.save(0)
    stage.save(1)
    stage.say(0, Failed(1, 1, Cause("WriteFailed", "worker 0: EIO", 0)))
    stage.say(1, Written(1, 1, Shard(1, "1/late", 8, ())))
    assert stage.discarded == ["1/late"]
    assert stage.log[-2].startswith("c -> 1  Aborted(round=1")


def test_a_repeated_shard_of_a_committed_round_is_never_discarded() -> None:
    stage = Stage(2).start_all()
    stage.save(0)
    stage.save(1)
    stage.write_all()
    stage.commit()
    stage.say(1, Written(1, 1, Shard(1, "1/1-1", 8, ())))
    assert stage.discarded == []
    assert stage.log[-1].startswith("c -> 1  Committed(round=1")


@pytest.mark.parametrize("handle", ["1/late", ""])
def test_a_workers_own_state_is_discarded_with_its_late_shard(handle: str) -> None:
    stage = Stage(2).start_all()
    stage.save(0)
    stage.save(1)
    stage.say(0, Failed(1, 1, Cause("WriteFailed", "worker 0: EIO", 0)))
    stage.say(1, Written(1, 1, Shard(1, handle, 8, (), StagedState(2, "1/state", 8, "1/state-index", 8, "00"))))
    assert stage.discarded == [*([handle] if handle else []), "1/state", "1/state-index"]


def test_a_workers_own_state_that_was_handed_in_is_discarded_with_the_round_and_never_after_its_commit() -> None:
    written = Written(1, 1, Shard(1, "1/share", 8, (), StagedState(2, "1/state", 8, "1/state-index", 8, "00")))
    stage = Stage(2).start_all()
    stage.save(0)
    stage.save(1)
    stage.say(1, written)
    stage.write(0)
    stage.commit()
    stage.say(1, written)
    assert stage.discarded == []
    stage = Stage(2).start_all()
    stage.save(0)
    stage.save(1)
    stage.say(1, written)
    stage.say(0, Failed(1, 1, Cause("WriteFailed", "worker 0: EIO", 0)))
    assert stage.discarded == ["1/share", "1/state", "1/state-index"]


def test_a_shard_of_an_earlier_round_does_not_count_in_the_open_one() -> None:
    stage = Stage(2).start_all()
    stage.save(0)
    stage.save(1)
    stage.fail_share(0, Cause("WriteFailed", "EIO", 0))
    stage.save(0, 110)
    stage.save(1, 110)
    stage.write(0)
    stage.say(1, Written(1, 1, Shard(1, "1/old", 8, ())))
    assert not stage.commits


def test_shards_of_a_save_that_is_not_decided_do_not_count() -> None:
    stage = Stage(2).start_all()
    stage.save(0)
    for worker in (0, 1):
        stage.say(worker, Written(1, worker, Shard(worker, f"1/early-{worker}", 8, ())))
    assert not stage.commits
    stage.save(1)
    stage.write_all()
    assert [shard.handle for shard in stage.commits[0].shards] == ["1/1-0", "1/1-1"]


def test_a_failed_commit_that_is_told_again_does_not_touch_the_next_save() -> None:
    stage = Stage(2).start_all()
    stage.save(0)
    stage.save(1)
    stage.write_all()
    stage.fail_commit("StorageFull", fatal=False)
    stage.save(0, 110)
    stage.save(1, 110)
    stage.decide(events.CommitFailed(1, Cause("StorageFull", "the journal said so", 0), fatal=False))
    stage.write_all()
    assert [commit.step for commit in stage.commits] == [110]


def test_a_repeated_announcement_of_a_decided_save_is_answered_again() -> None:
    stage = Stage(2).start_all()
    stage.save(0)
    stage.save(1)
    stage.say(1, Announce(1, 100, "ckpt-100", "same", 0))
    assert stage.log[-1].startswith("c -> 1  Decided(round=1, ordinal=1")


@pytest.mark.parametrize("committed", [True, False])
def test_a_delayed_announcement_of_a_finished_save_opens_no_round(*, committed: bool) -> None:
    stage = Stage(2).start_all()
    for step in (100, 110):
        stage.save(0, step)
        stage.save(1, step)
        stage.write_all()
        if committed:
            stage.commit()
        else:
            stage.fail_commit("StorageFull", fatal=False)
    stage.say(1, Announce(1, 100, "ckpt-100", "same", 0))
    stage.save(0, 120)
    stage.save(1, 120)
    assert stage.writes[0]
    assert stage.writes[1]


def test_an_outcome_that_the_journal_does_not_know_stops_everyone_and_touches_nothing() -> None:
    stage = Stage(2).start_all()
    stage.save(0)
    stage.save(1)
    stage.write_all()
    stage.fail_commit("OutcomeUnknown", fatal=True)
    assert kinds(stage) == ["OutcomeUnknown", "OutcomeUnknown"]
    assert stage.discarded == []
    stage.save(0, 110)
    assert stage.cause(0).kind == "OutcomeUnknown"


def test_after_the_chief_has_closed_a_save_is_refused_at_once() -> None:
    stage = Stage(2).start_all()
    stage.decide(events.Stop())
    stage.save(1)
    assert stage.cause(1).kind == "ManagerClosed"


def test_what_an_unknown_incarnation_says_is_never_acted_on() -> None:
    stage = Stage(2).start_all()
    stage.save(0)
    stranger = Sender(JOB, GENERATION, 1, "unheard-of")
    stage.decide(events.Received(AgentEnvelope(stranger, Announce(1, 100, "ckpt-100", "same", 0))))
    assert not any(stage.writes.values())
    assert "Rejected(cause=Refused: incarnation unheard-of of worker 1 has not joined" in stage.log[-1]


@pytest.mark.parametrize(
    ("sender", "world_size", "told"),
    [
        (Sender("other", 1, 1, "i"), 2, "Refused: worker 1 is of job 'other', this is job 'digits'"),
        (Sender(JOB, 0, 1, "i"), 2, "Fenced: worker 1 is of generation 0, this is generation 1"),
        (Sender(JOB, 2, 1, "i"), 2, "Refused: worker 1 is of generation 2, this is generation 1"),
        (Sender(JOB, 1, 2, "i"), 2, "ConfigurationError: there is no worker 2"),
        (Sender(JOB, 1, 1, "i"), 3, "counts 3 workers, the chief counts 2"),
    ],
)
def test_who_does_not_belong_here_is_told_why(sender: Sender, world_size: int, told: str) -> None:
    stage = Stage(2)
    stage.decide(events.Received(AgentEnvelope(sender, Join(world_size, "host", 1, "probe"))))
    assert told in stage.log[-1]


def test_a_worker_that_sees_another_directory_is_rejected_and_named() -> None:
    stage = Stage(2)
    stage.probe_faults[1] = "probe-1: there is no such object"
    stage.start(0)
    stage.start(1)
    stage.save(1)
    assert stage.cause(1).kind == "DirectoryMismatch"
    assert "worker 1 (10.0.0.1:2222) does not see the directory that the chief sees" in stage.cause(1).message


def test_a_probe_that_is_read_too_late_changes_nothing_for_who_was_replaced_or_has_left() -> None:
    stage = Stage(3).start_all()
    stage.start(1, "w1-again")
    stage.happen(2, events.Stop())
    stage.decide(events.ProbeResult(1, "w1", "probe-1: there is no such object"))
    stage.decide(events.ProbeResult(2, "w2", None))
    assert stage.coordinator.present == (0, 1)


def test_a_fenced_coordinator_tells_who_speaks_to_it_and_does_nothing_else() -> None:
    stage = Stage(2).start_all()
    stage.decide(events.Superseded(2, Cause("Fenced", "generation 2 has taken the directory over")))
    for message in (Announce(1, 100, "ckpt-100", "same", 0), Join(2, "host", 1001, "probe-1")):
        stage.say(1, message)
        assert stage.log[-1].startswith("c -> 1  FencedOff(generation=2")
    assert stage.coordinator.round is None


def test_the_older_incarnation_of_a_worker_is_stopped_when_it_speaks() -> None:
    stage = Stage(2).start_all()
    old, sender = stage.agents[1], stage.senders[1]
    stage.start(1, "w1-again")
    stage.agents[1], stage.senders[1] = old, sender
    stage.wait(1)
    stage.save(1)
    assert stage.cause(1) == Cause("Fenced", "a newer incarnation of worker 1 has joined", 1)


def test_workers_that_have_left_or_are_lost_are_not_present() -> None:
    stage = Stage(3).start_all()
    assert stage.coordinator.present == (0, 1, 2)
    stage.happen(1, events.Stop())
    stage.kill(2)
    stage.wait(3)
    assert stage.coordinator.present == (0,)
