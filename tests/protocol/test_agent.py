"""Every request of the training thread has one outcome, in time, whatever the coordinator and the network do."""

import pytest
from staged.stage import DEADLINES, Stage

from distckpt.model import Cause, Checkpoint
from distckpt.protocol import events
from distckpt.protocol.agent import Standing
from distckpt.protocol.deadlines import REPEATED_PER_S_MAX
from distckpt.protocol.machine import IllegalTransition
from distckpt.protocol.messages import Alive, Committed, CoordinatorEnvelope, Sender


def test_a_save_that_is_asked_for_before_joining_is_announced_after() -> None:
    stage = Stage(1)
    stage.cut.add(0)
    stage.start(0)
    stage.save(0)
    stage.cut.clear()
    stage.wait(DEADLINES.resend_s)
    stage.write(0)
    assert stage.commits


def test_a_coordinator_that_cannot_be_joined_ends_the_agent_with_its_address() -> None:
    stage = Stage(2)
    stage.cut.add(1)
    stage.start(1)
    stage.save(1)
    stage.wait(DEADLINES.join_s)
    assert stage.cause(1).kind == "CoordinatorUnreachable"
    assert "10.0.0.0:4000 (never heard of" in stage.cause(1).message
    assert stage.agents[1].standing is Standing.STOPPED


def test_a_coordinator_that_falls_silent_is_unreachable_with_when_it_was_last_heard_of() -> None:
    stage = Stage(2).start_all()
    stage.cut.add(1)
    stage.save(1)
    stage.wait(DEADLINES.silence_s + DEADLINES.resend_s)  # the journal shows that it lives, so nobody takes over
    assert stage.cause(1).kind == "CoordinatorUnreachable"
    assert "10.0.0.0:4000 (last heard of 15.0 s ago" in stage.cause(1).message


def test_a_broken_connection_that_does_not_come_back_ends_the_wait_sooner() -> None:
    stage = Stage(2).start_all()
    stage.save(1)
    stage.cut.add(1)
    stage.happen(1, events.ConnectionLost())
    stage.wait(DEADLINES.disconnect_s + DEADLINES.resend_s)
    assert "disconnected 2.0 s ago" in stage.cause(1).message


def test_a_connection_that_comes_back_ends_nothing() -> None:
    stage = Stage(2).start_all()
    stage.save(1)
    stage.happen(1, events.ConnectionLost())
    stage.happen(1, events.ConnectionMade())
    stage.wait(DEADLINES.disconnect_s)
    assert stage.outcomes[1] == []


def test_a_save_has_an_end_even_if_the_coordinator_only_lives_on() -> None:
    stage = Stage(1).start_all()
    stage.cut.add(0)
    stage.save(0)
    while not stage.outcomes[0]:
        stage.happen(0, events.Heard(CoordinatorEnvelope(stage.senders[0], Alive())))
        stage.wait(10)
    assert stage.cause(0).kind == "OutcomeUnknown"
    assert "no outcome after 780" in stage.cause(0).message
    assert stage.now <= DEADLINES.save_s + 10


def test_closing_resolves_what_is_outstanding_and_says_so() -> None:
    stage = Stage(2).start_all()
    stage.save(1)
    stage.happen(1, events.Stop())
    assert stage.cause(1).kind == "ManagerClosed"
    assert "1 -> c  Leave(cause=ManagerClosed: closed before the save of step 100 was over)" in stage.log
    stage.save(1, 110)
    assert stage.cause(1).kind == "ManagerClosed"
    assert stage.dropped[1] == [1, 2]


def test_closing_after_the_shard_was_handed_in_leaves_the_outcome_unknown() -> None:
    stage = Stage(2).start_all()
    stage.save(0)
    stage.save(1)
    stage.write(1)
    stage.happen(1, events.Stop())
    assert stage.cause(1).kind == "OutcomeUnknown"
    assert not stage.discarded or stage.discarded == ["1/1-1"]


def test_a_share_that_is_written_after_the_save_was_given_up_is_thrown_away() -> None:
    stage = Stage(2).start_all()
    stage.save(0)
    stage.save(1)
    stage.cut.add(1)
    stage.wait(DEADLINES.silence_s + DEADLINES.resend_s)
    assert stage.dropped[1] == []
    stage.write(1)
    assert stage.discarded == ["1/1-1"]
    assert stage.dropped[1] == [1]


def test_what_is_meant_for_another_incarnation_is_ignored() -> None:
    stage = Stage(1).start_all()
    stage.save(0)
    stage.write(0)
    other = Sender("digits", 1, 0, "another")
    made = Committed(1, 1, Checkpoint("ckpt-100", 100, 0.0, 1))
    stage.happen(0, events.Heard(CoordinatorEnvelope(other, made)))
    assert stage.outcomes[0] == []


def test_two_saves_at_once_are_an_error_of_the_caller() -> None:
    stage = Stage(2).start_all()
    stage.save(0)
    with pytest.raises(IllegalTransition, match="save 2 was requested while save 1 is outstanding"):
        stage.save(0, 110)


def test_ordinals_that_do_not_rise_are_an_error_of_the_caller() -> None:
    stage = Stage(2).start_all()
    stage.save(0)
    with pytest.raises(IllegalTransition, match="request 1 comes after request 1"):
        stage.happen(0, events.RestoreRequested(1, "latest"))


def test_an_illegal_transition_tells_the_objects_story() -> None:
    stage = Stage(1).start_all()
    stage.save(0)
    with pytest.raises(IllegalTransition, match=r"(?s)agent of worker 0.*new -> joining: started.*joining -> joined"):
        stage.happen(0, events.Started())


def test_a_failure_is_repeated_until_the_coordinator_has_heard_of_it() -> None:
    stage = Stage(2).start_all()
    stage.save(0)
    stage.save(1)
    stage.cut.add(1)
    stage.fail_share(1, Cause("StorageFull", "worker 1: full", 1))
    assert len(stage.writes[0]) == 1
    stage.cut.clear()
    stage.wait(DEADLINES.resend_s)
    assert [asked.share for asked in stage.writes[0]] == [0, 2], "the chief is to write the other's share as well"


def test_thousands_of_workers_repeat_themselves_no_oftener_than_a_coordinator_can_bear() -> None:
    deadlines = DEADLINES.for_world(4096)
    for interval_s in (deadlines.heartbeat_s, deadlines.resend_s):
        assert 4096 / interval_s <= REPEATED_PER_S_MAX
    assert deadlines.silence_s >= 5 * deadlines.heartbeat_s, "a lost heartbeat or two is no lost worker"
    assert DEADLINES.for_world(100) == DEADLINES
