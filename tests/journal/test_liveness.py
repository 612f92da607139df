"""Whom a directory lets in: the same job always, another one when the holder is not alive."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from distckpt.errors import CorruptJournal, DirectoryInUse
from distckpt.journal.liveness import ALIVE, BEAT_S, Beat, Pulse, claim, decode_beat, encode_beat, judge, read_beat
from distckpt.journal.log import Journal
from distckpt.journal.process import is_gone, this_process
from distckpt.journal.records import GenerationRecord, Process
from distckpt.journal.state import JournalState
from distckpt.storage.memory import MemoryStorage

HERE = Process("here", 10, "boot", "namespace", "100")
THERE = Process("there", 20, "another boot", "namespace", "200")


def holder(process: Process = THERE, *, job: str = "held", generation: int = 1) -> GenerationRecord:
    return GenerationRecord(generation, job, f"start{generation}", process, (), 0.0)


class Watch:
    """A clock that the test moves: each sleep does the next thing of the story."""

    def __init__(self, *story: Callable[[], None]) -> None:
        self.story = list(story)
        self.slept_s = 0.0

    def sleep(self, seconds: float) -> None:
        self.slept_s += seconds
        if self.story:
            self.story.pop(0)()


def nothing() -> None:
    pass


def asks(storage: MemoryStorage, begun: GenerationRecord | None, watch: Watch, job: str = "mine") -> str:
    return claim(storage, job, begun, here=HERE, observe_s=5.0, sleep=watch.sleep)


def test_a_directory_that_nobody_ever_held_is_free_at_once(storage: MemoryStorage) -> None:
    watch = Watch()
    assert "nobody" in asks(storage, None, watch)
    assert watch.slept_s == 0


def test_the_same_job_takes_over_at_once_even_from_one_that_breathes(storage: MemoryStorage) -> None:
    watch = Watch()
    Pulse(storage, holder(job="mine")).beat()
    reason = asks(storage, holder(job="mine"), watch)
    assert reason == "takes over from job mine (generation 1, pid 20 on there)"
    assert watch.slept_s == 0


def test_another_job_is_refused_as_soon_as_the_holder_beats(storage: MemoryStorage) -> None:
    pulse = Pulse(storage, holder(), clock=lambda: 1_000_000_000.0)
    pulse.beat()
    watch = Watch(nothing, nothing, pulse.beat)
    with pytest.raises(DirectoryInUse) as caught:
        asks(storage, holder(), watch)
    told = str(caught.value)
    for part in (
        "job held",
        "generation 1",
        "pid 20 on there",
        "2001-09-09T01:46:40",
        "another directory",
        "DISTCKPT_JOB_ID",
    ):
        assert part in told
    assert watch.slept_s < 5 * BEAT_S


def test_a_holder_that_had_not_beaten_yet_is_alive_when_it_does(storage: MemoryStorage) -> None:
    pulse = Pulse(storage, holder())
    with pytest.raises(DirectoryInUse):
        asks(storage, holder(), Watch(nothing, pulse.beat))


def test_a_holder_that_is_silent_as_long_as_it_is_watched_counts_as_dead(storage: MemoryStorage) -> None:
    Pulse(storage, holder()).beat()
    watch = Watch()
    assert "no sign of life for 5 s" in asks(storage, holder(), watch)
    assert watch.slept_s == 5.0


def test_clocks_that_differ_by_years_do_not_matter(storage: MemoryStorage) -> None:
    Pulse(storage, holder(), clock=lambda: 4e9).beat()
    assert "no sign of life" in asks(storage, holder(), Watch())
    pulse = Pulse(storage, holder(), clock=lambda: 1.0)
    with pytest.raises(DirectoryInUse):
        asks(storage, holder(), Watch(pulse.beat))


def test_a_holder_that_left_is_no_hindrance(storage: MemoryStorage) -> None:
    pulse = Pulse(storage, holder())
    pulse.beat()
    watch = Watch(nothing, pulse.close)
    assert "left while it was watched" in asks(storage, holder(), watch)
    watch = Watch()
    assert "left" in asks(storage, holder(), watch)
    assert watch.slept_s == 0


def test_the_beats_of_a_fenced_predecessor_prove_nothing(storage: MemoryStorage) -> None:
    """Nor does its leaving."""
    zombie = Pulse(storage, holder(generation=1))
    zombie.beat()
    assert "no sign of life" in asks(storage, holder(generation=2), Watch(*[zombie.beat] * 30))
    zombie.close()
    current = Pulse(storage, holder(generation=2))
    with pytest.raises(DirectoryInUse):
        asks(storage, holder(generation=2), Watch(zombie.beat, current.beat))


def test_a_beat_file_that_is_garbage_is_no_sign_of_life_and_no_hindrance(storage: MemoryStorage) -> None:
    for garbage in (b"", b"{", b"[]", b"[" * 100_000, b'{"generation": "one"}'):
        storage.put(ALIVE, garbage)
        assert read_beat(storage) is None
        assert "no sign of life" in asks(storage, holder(), Watch())
        with pytest.raises(CorruptJournal, match="alive"):
            decode_beat(garbage)


def test_a_beat_at_no_possible_time_is_told_all_the_same(storage: MemoryStorage) -> None:
    pulse = Pulse(storage, holder(), clock=lambda: 1e300)
    with pytest.raises(DirectoryInUse, match="a moment ago"):
        asks(storage, holder(), Watch(pulse.beat))


def test_a_beat_comes_back_as_it_was() -> None:
    beat = Beat(3, "nonce", THERE, 7, 12.5, closed=True)
    assert decode_beat(encode_beat(beat)) == beat


@pytest.mark.parametrize(
    ("begun", "beat", "gone", "verdict"),
    [
        (None, None, False, "free"),
        (holder(job="mine"), None, False, "same job"),
        (holder(job="mine"), Beat(1, "start1", THERE, 1, 0.0), False, "same job"),
        (holder(), Beat(1, "start1", THERE, 1, 0.0, closed=True), False, "left"),
        (holder(), Beat(1, "start1", THERE, 1, 0.0), True, "gone"),
        (holder(), None, True, "gone"),
        (holder(), None, False, "watch"),
        (holder(), Beat(1, "start1", THERE, 1, 0.0), False, "watch"),
    ],
)
def test_every_verdict_has_a_reason(begun: GenerationRecord, beat: Beat, *, gone: bool, verdict: str) -> None:
    said, reason = judge("mine", begun, beat, gone=gone)
    assert said == verdict
    assert reason


# ----------------------------------------------------------------------------------------------------- real processes


ANOTHER = """
import dataclasses, json
from distckpt.journal.process import this_process
print(json.dumps(dataclasses.astuple(this_process())), flush=True)
input()
"""


@pytest.fixture
def another() -> Iterator[tuple[subprocess.Popen[str], Process]]:
    """Another process of this machine, alive, and what it says of itself."""
    child = subprocess.Popen([sys.executable, "-c", ANOTHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        yield child, Process(*json.loads(child.stdout.readline()))
    finally:
        child.kill()
        child.communicate()


def test_a_holder_of_this_machine_is_gone_at_once_when_it_is_killed(
    storage: MemoryStorage, another: tuple[subprocess.Popen[str], Process]
) -> None:
    child, process = another
    assert process.pid == child.pid
    assert not is_gone(process, this_process())
    with pytest.raises(DirectoryInUse):
        claim(storage, "mine", holder(process), sleep=Watch(Pulse(storage, holder(process)).beat).sleep)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert is_gone(process, this_process()), "dead, though nobody has waited for it"
    child.wait()
    watch = Watch()
    assert "died" in claim(storage, "mine", holder(process), sleep=watch.sleep)
    assert watch.slept_s == 0


def test_another_process_under_the_same_number_is_not_taken_for_the_holder() -> None:
    here = this_process()
    assert is_gone(replace(here, started="1"), here)


@pytest.mark.parametrize("field", ["boot", "namespace", "started"])
def test_of_a_process_that_cannot_be_seen_from_here_nothing_is_claimed(field: str) -> None:
    """Another machine, another container, or a system that does not tell."""
    here = this_process()
    assert not is_gone(replace(here, pid=1 << 22, **{field: ""}), here)
    if field != "started":
        assert not is_gone(replace(here, pid=1 << 22, **{field: "another"}), here)


def test_of_two_jobs_that_start_together_one_is_refused(storage: MemoryStorage) -> None:
    """Both looked at a free directory; the one that comes second is asked again, about the first."""

    def begin(job: str, meanwhile: list[Callable[[], object]], watch: Watch) -> GenerationRecord:
        def admit(state: JournalState) -> None:
            claim(storage, job, state.begun, here=HERE, sleep=watch.sleep)
            if meanwhile:
                meanwhile.pop()()

        journal = Journal.open(storage)
        journal.begin(job=job, process=THERE, world=(), timestamp=0.0, admit=admit)
        assert journal.state.begun is not None
        return journal.state.begun

    first: list[GenerationRecord] = []
    watch = Watch(lambda: Pulse(storage, first[0]).beat())
    with pytest.raises(DirectoryInUse, match="job first"):
        begin("second", [lambda: first.append(begin("first", [], Watch()))], watch)
    assert Journal.open(storage).state.begun == first[0]
