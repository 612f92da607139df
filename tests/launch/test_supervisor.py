"""The supervisor alone: events and times in, effects out."""

import signal

import pytest

from distckpt.launch.restarts import RestartPolicy, Restarts
from distckpt.launch.supervisor import (
    FINISH_S,
    Asked,
    Effect,
    Exited,
    Finish,
    Finished,
    Hung,
    Say,
    Signal,
    Start,
    Supervisor,
    Tick,
    describe_exit,
    exit_code,
)

GRACE_S = 5.0


def begun(workers: int = 2, max_restarts: int = 0, backoff_s: float = 0.0) -> Supervisor:
    policy = RestartPolicy(max_restarts, backoff_s=backoff_s)
    supervisor = Supervisor(Restarts(policy, workers), GRACE_S)
    assert supervisor.begin(now=0) == [Start(0, workers)]
    return supervisor


def acts(effects: list[Effect]) -> list[Effect]:
    return [effect for effect in effects if not isinstance(effect, Say)]


def said(effects: list[Effect]) -> str:
    return " | ".join(effect.text for effect in effects if isinstance(effect, Say))


def test_the_job_ends_well_when_every_worker_did() -> None:
    supervisor = begun()
    assert supervisor.handle(Exited(1, 0), now=1) == []
    assert supervisor.handle(Exited(0, 0), now=2) == [Finish(0)]


def test_the_first_failure_stops_the_others_and_names_itself() -> None:
    supervisor = begun(workers=3)
    effects = supervisor.handle(Exited(1, -signal.SIGKILL), now=1)
    assert acts(effects) == [Signal(0, signal.SIGTERM), Signal(2, signal.SIGTERM)]
    assert said(effects) == "worker 1 was killed by SIGKILL: stopping the others"


def test_the_others_first_finish_what_they_have_in_hand() -> None:
    supervisor = begun(workers=3, max_restarts=1)
    effects = supervisor.handle(Exited(1, -signal.SIGKILL, "the save of step 3"), now=1)
    assert acts(effects) == []
    assert said(effects) == (
        "worker 1 was killed by SIGKILL: the others first finish the save of step 3, for at most 120 s"
    )
    assert supervisor.finishing
    assert acts(supervisor.handle(Exited(2, 1, "the save of step 3"), now=2)) == [], "it failed too, and has finished"
    assert acts(supervisor.handle(Finished(), now=3)) == [Signal(0, signal.SIGTERM)]
    assert not supervisor.finishing
    assert acts(supervisor.handle(Tick(), now=3 + GRACE_S)) == [Signal(0, signal.SIGKILL)]


def test_who_does_not_finish_is_stopped_all_the_same() -> None:
    supervisor = begun()
    supervisor.handle(Exited(1, 3, "the save of step 3"), now=1)
    assert supervisor.handle(Tick(), now=FINISH_S) == []
    assert supervisor.next_deadline() == 1 + FINISH_S
    assert acts(supervisor.handle(Tick(), now=1 + FINISH_S)) == [Signal(0, signal.SIGTERM)]
    assert acts(supervisor.handle(Tick(), now=1 + FINISH_S + GRACE_S)) == [Signal(0, signal.SIGKILL)]


def test_when_all_have_finished_and_gone_they_start_again() -> None:
    supervisor = begun(max_restarts=1)
    supervisor.handle(Exited(1, 3, "the save of step 3"), now=1)
    assert acts(supervisor.handle(Exited(0, 1), now=2)) == [Start(1, 2)]
    assert not supervisor.finishing


def test_what_is_in_hand_when_the_job_was_asked_to_end_is_finished_too() -> None:
    supervisor = begun()
    supervisor.handle(Asked(signal.SIGTERM), now=1)
    assert acts(supervisor.handle(Exited(1, 143, "the save of step 3"), now=2)) == []
    assert acts(supervisor.handle(Finished(), now=20)) == [], "it has its signal already"
    assert acts(supervisor.handle(Tick(), now=20 + GRACE_S)) == [Signal(0, signal.SIGKILL)]


def test_a_worker_that_ended_well_is_not_signalled() -> None:
    supervisor = begun(workers=3)
    supervisor.handle(Exited(0, 0), now=1)
    assert acts(supervisor.handle(Exited(1, 3), now=2)) == [Signal(2, signal.SIGTERM)]


def test_who_is_still_there_after_the_grace_period_is_killed() -> None:
    supervisor = begun()
    supervisor.handle(Exited(1, 1), now=10)
    assert supervisor.next_deadline() == 15
    assert supervisor.handle(Tick(), now=14.9) == []
    assert acts(supervisor.handle(Tick(), now=15)) == [Signal(0, signal.SIGKILL)]
    assert supervisor.next_deadline() is None


def test_the_code_is_the_first_failures_and_not_that_of_those_it_stopped() -> None:
    supervisor = begun()
    supervisor.handle(Exited(1, 3), now=1)
    assert acts(supervisor.handle(Exited(0, -signal.SIGTERM), now=2)) == [Finish(3)]


def test_all_start_again_together_at_most_so_many_times() -> None:
    supervisor = begun(max_restarts=1)
    supervisor.handle(Exited(0, -signal.SIGKILL), now=1)
    assert acts(supervisor.handle(Exited(1, -signal.SIGTERM), now=2)) == [Start(1, 2)]
    supervisor.handle(Exited(1, 7), now=3)
    effects = supervisor.handle(Exited(0, -signal.SIGTERM), now=4)
    assert acts(effects) == [Finish(7)]
    assert said(effects) == "giving up after 1 of 1 restarts"


def test_a_restart_runs_also_the_workers_that_had_ended_well() -> None:
    supervisor = begun(max_restarts=1)
    supervisor.handle(Exited(0, 0), now=1)
    assert acts(supervisor.handle(Exited(1, 1), now=2)) == [Start(1, 2)]
    supervisor.handle(Exited(1, 0), now=3)
    assert supervisor.handle(Exited(0, 0), now=4) == [Finish(0)]


def test_a_signal_to_the_launcher_is_passed_on_and_nothing_is_restarted() -> None:
    supervisor = begun(max_restarts=5)
    assert acts(supervisor.handle(Asked(signal.SIGTERM), now=1)) == [
        Signal(0, signal.SIGTERM),
        Signal(1, signal.SIGTERM),
    ]
    assert supervisor.next_deadline() is None, "a worker that saves at SIGTERM may take its time"
    supervisor.handle(Exited(0, -signal.SIGTERM), now=2)
    assert acts(supervisor.handle(Exited(1, 0), now=3)) == [Finish(128 + signal.SIGTERM)]


def test_workers_that_end_well_when_asked_make_a_job_that_ended_well() -> None:
    supervisor = begun(workers=1)
    supervisor.handle(Asked(signal.SIGINT), now=1)
    assert supervisor.handle(Exited(0, 0), now=2) == [Finish(0)]


def test_asked_twice_kills() -> None:
    supervisor = begun()
    supervisor.handle(Asked(signal.SIGINT), now=1)
    assert acts(supervisor.handle(Asked(signal.SIGINT), now=2)) == [
        Signal(0, signal.SIGKILL),
        Signal(1, signal.SIGKILL),
    ]


def test_a_failure_after_the_launcher_was_asked_starts_the_grace_period() -> None:
    supervisor = begun()
    supervisor.handle(Asked(signal.SIGTERM), now=1)
    assert acts(supervisor.handle(Exited(0, 1), now=2)) == []
    assert supervisor.next_deadline() == 2 + GRACE_S


def test_asked_while_a_restart_is_under_way_ends_the_job() -> None:
    supervisor = begun(max_restarts=5)
    supervisor.handle(Exited(0, 9), now=1)
    supervisor.handle(Asked(signal.SIGTERM), now=2)
    assert acts(supervisor.handle(Exited(1, -signal.SIGTERM), now=3)) == [Finish(9)]


def test_a_hung_worker_and_all_that_may_wait_for_it_show_where_they_are_and_are_killed_if_they_do_not_end() -> None:
    supervisor = begun(workers=3, max_restarts=1)
    supervisor.handle(Exited(2, 0), now=1)
    effects = supervisor.handle(Hung(1, silent_s=30.0, step=81), now=100)
    assert acts(effects) == [Signal(0, signal.SIGABRT), Signal(1, signal.SIGABRT)]
    assert said(effects).startswith("worker 1 finished no step for 30 s, its last was 81: stopping all workers")
    assert supervisor.handle(Hung(1, silent_s=31.0, step=81), now=101) == [], "once is enough"
    assert acts(supervisor.handle(Exited(1, -signal.SIGABRT), now=102)) == [], "SIGTERM would cut the dump short"
    assert acts(supervisor.handle(Tick(), now=100 + GRACE_S)) == [Signal(0, signal.SIGKILL)]
    assert acts(supervisor.handle(Exited(0, -signal.SIGKILL), now=106)) == [Start(1, 3)]


def test_a_hang_that_is_not_restarted_ends_with_its_signals_code() -> None:
    supervisor = begun(workers=1)
    supervisor.handle(Hung(0, silent_s=30.0, step=81), now=100)
    assert acts(supervisor.handle(Exited(0, -signal.SIGABRT), now=101)) == [Finish(128 + signal.SIGABRT)]


def test_a_start_that_is_ending_anyway_does_not_hang() -> None:
    supervisor = begun()
    supervisor.handle(Exited(1, 1), now=1)
    assert supervisor.handle(Hung(0, silent_s=30.0, step=81), now=2) == []


def test_the_second_restart_in_a_row_waits_and_can_be_called_off() -> None:
    supervisor = begun(workers=1, max_restarts=3, backoff_s=2.0)
    assert acts(supervisor.handle(Exited(0, 1), now=1)) == [Start(1, 1)]
    effects = supervisor.handle(Exited(0, 7), now=2)
    assert (acts(effects), said(effects)) == (
        [],
        "worker 0 exited with code 7 | restart 2 of 3: starting all workers again in 2 s",
    )
    assert supervisor.next_deadline() == 4
    assert supervisor.handle(Tick(), now=3.9) == []
    assert acts(supervisor.handle(Tick(), now=4)) == [Start(2, 1)]
    supervisor.handle(Exited(0, 7), now=5)
    assert acts(supervisor.handle(Asked(signal.SIGINT), now=6)) == [Finish(7)]


@pytest.mark.parametrize(
    ("code", "shell", "words"),
    [
        (0, 0, "exited with code 0"),
        (3, 3, "exited with code 3"),
        (-9, 137, "was killed by SIGKILL"),
        (-15, 143, "was killed by SIGTERM"),
        (-63, 191, "was killed by signal 63"),
    ],
)
def test_exit_codes_read_as_a_shell_says_them(code: int, shell: int, words: str) -> None:
    assert exit_code(code) == shell
    assert describe_exit(code) == words
