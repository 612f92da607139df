"""What the launcher makes of its workers' steps. Times are given: nothing here waits."""

import math
from pathlib import Path

import pytest

from distckpt.launch.health import LOOK_S, Health, hung, progress
from distckpt.launch.supervisor import Hung
from distckpt.observe.step_file import VARIABLE, StepFile, Steps, read_steps


def steps(last: int, last_at: float) -> Steps:
    return Steps(1.0, 2.0, 1, 3.0, last, last_at)


def test_a_step_file_tells_the_launcher_what_the_worker_did(tmp_path: Path) -> None:
    path = str(tmp_path / "worker-0")
    assert read_steps(path) == Steps()
    file = StepFile({VARIABLE: path})
    file.restoring()
    file.restored()
    for step in (81, 82, 83):
        file.step(step)
    told = read_steps(path)
    assert (told.first, told.last) == (81, 83)
    assert 0 < told.restoring_at <= told.restored_at <= told.first_at <= told.last_at
    file.close()
    assert read_steps(path).last_at == math.inf
    file.close()


def test_a_worker_that_nobody_follows_writes_nothing_and_one_whose_file_cannot_be_written_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    StepFile({}).step(1)
    assert not caplog.records
    file = StepFile({VARIABLE: str(tmp_path / "no" / "such")})
    file.step(1)
    file.close()
    assert len(caplog.records) == 1


def test_a_half_written_file_is_one_that_tells_nothing(tmp_path: Path) -> None:
    (tmp_path / "worker-0").write_bytes(b"x")
    assert read_steps(str(tmp_path / "worker-0")) == Steps()


def test_who_is_silent_longest_hangs() -> None:
    both = {0: steps(81, 90.0), 1: steps(80, 80.0)}
    assert hung(both, timeout_s=20.0, now=100.0) is None
    assert hung(both, timeout_s=20.0, now=101.0) == Hung(1, silent_s=21.0, step=80)


def test_no_worker_hangs_before_its_first_step_or_after_the_training() -> None:
    assert hung({0: Steps(restoring_at=1.0)}, timeout_s=1.0, now=100.0) is None
    assert hung({0: steps(81, math.inf)}, timeout_s=1.0, now=100.0) is None
    assert hung({}, timeout_s=1.0, now=100.0) is None


class Followed:
    """A job of `workers` workers that `Health` follows; what it says and shows."""

    def __init__(self, hang_timeout_s: float | None = None) -> None:
        self.said: list[str] = []
        self.shown: list[str] = []
        self.health = Health(hang_timeout_s, self.said.append, self.shown.append)

    def write(self, worker: int, told: Steps) -> None:
        Path(self.health.environ(worker)[VARIABLE]).write_bytes(told.encode())


def test_a_recovery_is_told_once_in_parts_that_add_up() -> None:
    job = Followed()
    job.health.begin(0, 2, now=10.0)
    job.health.killed(now=50.0)
    job.health.failed(now=50.25)
    job.health.failed(now=51.0)
    job.health.begin(1, 2, now=52.25)
    job.write(0, Steps(55.0, 55.5, 81, 56.0, 81, 56.0))
    job.health.look(60.0, {0, 1})
    assert job.said == [], "worker 1 has not got there"
    job.write(1, Steps(55.25, 55.5, 81, 56.0, 82, 57.0))
    job.health.look(60.0 + LOOK_S, {0, 1})
    job.health.look(60.0 + 2 * LOOK_S, {0, 1})
    (told,) = job.said
    first, _, parts = told.partition(": ")
    assert first == "step 81 is the first since the failure, 6.00 s after it"
    assert parts.split(", ") == [
        "0.25 s to notice",
        "2.00 s to stop the others",
        "3.00 s to start",
        "0.25 s to restore",
        "0.50 s for the step",
    ]


def test_what_a_hang_cost_counts_from_the_last_step() -> None:
    job = Followed(hang_timeout_s=20.0)
    job.health.begin(0, 1, now=10.0)
    job.write(0, steps(80, 30.0))
    assert job.health.look(51.0, {0}) == Hung(0, 21.0, 80)
    assert job.health.look(52.0, {0}) is None, "told once"
    job.health.begin(1, 1, now=53.0)
    job.write(0, Steps(0.0, 0.0, 71, 60.0, 71, 60.0))
    job.health.look(61.0, {0})
    (told,) = job.said
    assert told.startswith(
        "step 71 is the first since the failure, 30.00 s after it: 21.00 s to notice, 2.00 s to stop"
    )
    assert told.endswith(", 7.00 s to start and finish a step"), "a script that restores in its own way"


def test_a_worker_that_has_ended_does_not_hang() -> None:
    job = Followed(hang_timeout_s=20.0)
    job.health.begin(0, 2, now=10.0)
    job.write(0, steps(80, 30.0))
    job.write(1, steps(80, 60.0))
    assert job.health.look(70.0, {1}) is None


def test_the_line_says_how_far_the_training_is() -> None:
    assert progress([Steps(), Steps()], attempt=0, lived_s=3.9) == "2 workers, starting, 0:00:03"
    both = [Steps(1.0, 2.0, 1, 10.0, 1_201, 110.0), Steps(1.0, 2.0, 1, 10.0, 1_198, 110.0)]
    assert progress(both[:1], attempt=0, lived_s=3_725) == "1 worker, step 1,201, 12 steps/s, 1:02:05"
    assert progress(both, attempt=2, lived_s=0) == (
        "2 workers, step 1,198 (worker 1 is 3 behind), 12 steps/s, start 3, 0:00:00"
    )
    assert progress([Steps(0, 0, 1, 5.0, 1, 5.0)], attempt=0, lived_s=0) == "1 worker, step 1, 0:00:00"


def test_the_folder_goes_with_the_job() -> None:
    job = Followed()
    folder = Path(job.health.environ(0)[VARIABLE]).parent
    assert folder.is_dir()
    job.health.close()
    assert not folder.exists()
