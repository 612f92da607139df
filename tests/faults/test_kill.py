"""kill -9 of either worker at each storage operation of a save: the directory stays whole, the next start goes on.

Real processes, sockets and files; the model is made of arrays, so that a process starts in a second.
"""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from distckpt.bundle.reader import BundleReader
from distckpt.bundle.verify import verify
from distckpt.catalog import Catalog
from distckpt.journal.log import Journal
from distckpt.storage.posix import PosixStorage

SCRIPT = Path(__file__).with_name("job_worker.py")
DEADLINE_S = 90


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("job_worker", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Any]:
    """Starts the workers of the job."""
    starts = count()
    running: list[subprocess.Popen[str]] = []

    def start(
        steps: list[int], die: dict[int, dict[str, int]] | None = None, workers_count: int = 2
    ) -> list[subprocess.Popen[str]]:
        board = tmp_path / f"board-{next(starts)}"
        told = {"directory": str(tmp_path / "checkpoints"), "board": str(board), "count": workers_count, "steps": steps}
        workers = [
            subprocess.Popen(
                [sys.executable, str(SCRIPT), json.dumps({**told, "index": index, "die": (die or {}).get(index, {})})],
                stdout=subprocess.PIPE,
                text=True,
            )
            for index in range(workers_count)
        ]
        running.extend(workers)
        return workers

    yield start
    for worker in running:
        worker.kill()
        worker.wait()


@pytest.fixture
def start(launch: Any) -> Any:
    """Runs the workers of one start of the job to their ends; returns their exit codes and what each printed."""

    def run(*args: Any, **kwargs: Any) -> list[tuple[int, list[dict[str, Any]]]]:
        workers = launch(*args, **kwargs)
        outputs = [worker.communicate(timeout=DEADLINE_S)[0] for worker in workers]
        return [(worker.returncode, lines_of(output)) for worker, output in zip(workers, outputs, strict=True)]

    return run


def lines_of(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def outcomes(lines: list[dict[str, Any]]) -> dict[int, str]:
    return {line["step"]: line["outcome"] for line in lines if "step" in line}


def assert_whole(directory: Path, script: ModuleType, newest: int) -> None:
    """I1, I6: what is committed is there, complete, of one step, bit for bit; and nothing else is left."""
    storage = PosixStorage(directory)
    live = Journal.open(storage).state.live
    assert live[-1].step == newest
    for checkpoint in live:
        assert verify(storage, checkpoint.name) == []
        reader = BundleReader(storage, checkpoint.name)
        for name, array in script.model_of(checkpoint.step).items():
            assert bytes(reader.read(name).data) == array.tobytes()
    assert sorted(path.stem for path in directory.glob("*.index")) == sorted(each.name for each in live)
    assert storage.staged() == sorted(file.handle for checkpoint in live for file in checkpoint.files)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_worker_killed_at_any_storage_operation_of_a_save_leaves_a_restorable_directory(
    victim: int, start: Any, script: ModuleType, tmp_path: Path
) -> None:
    acknowledged: set[int] = set()
    for at in count(1):
        clean, doomed = 2 * at - 1, 2 * at
        results = start([clean, doomed], die={victim: {"at": at, "step": doomed}})
        live = {int(name.removeprefix("ckpt-")) for name in results[0][1][0]["live"]}
        assert acknowledged <= live, "what was acknowledged before the kill is there after it"
        assert {outcomes(lines)[clean] for _, lines in results} == {"committed"}, "the next start goes on"
        assert results[1 - victim][0] == 0, "the survivor ends by itself"
        assert outcomes(results[1 - victim][1])[doomed] == "committed", "the survivor sees to it"
        acknowledged = {clean} | {doomed for _, lines in results if outcomes(lines).get(doomed) == "committed"}
        if results[victim][0] == 0:
            break
    assert at > 3, "operations were interrupted"
    start([doomed + 1])
    assert_whole(tmp_path / "checkpoints", script, doomed + 1)


def test_when_the_chief_is_killed_one_survivor_commits_and_the_other_hears_of_it(
    start: Any, script: ModuleType, tmp_path: Path
) -> None:
    # After the three of its share, its first operation of the commit: who has written a share knows what was decided,
    # and so that worker 2 has nothing of its own. A worker that does not know names all others as missing.
    results = start([1], die={0: {"at": 4, "step": 1}}, workers_count=3)
    assert [code for code, _ in results] == [-signal.SIGKILL, 0, 0]
    assert [outcomes(lines).get(1) for _, lines in results] == [None, "committed", "committed"]
    manifest = Catalog(tmp_path / "checkpoints").manifest(1)
    assert manifest is not None
    assert (manifest.generation, manifest.workers, manifest.missing_workers) == (2, (1,), (0,))
    start([2])
    assert_whole(tmp_path / "checkpoints", script, 2)


def test_a_worker_frozen_in_the_middle_of_a_save_holds_nobody_up_and_takes_part_again_when_it_wakes(
    launch: Any, script: ModuleType, tmp_path: Path
) -> None:
    chief, other = launch([1, 2], die={1: {"at": 2, "step": 1, "signal": signal.SIGSTOP}})
    told = [json.loads(chief.stdout.readline()) for _ in range(2)]
    assert told[1] == {"step": 1, "outcome": "committed"}, "without the frozen one, which still lives"
    other.send_signal(signal.SIGCONT)
    outputs = [worker.communicate(timeout=DEADLINE_S)[0] for worker in (chief, other)]
    assert outcomes(lines_of(outputs[0])) == {2: "committed"}
    assert outcomes(lines_of(outputs[1])) == {1: "committed", 2: "committed"}
    assert [chief.returncode, other.returncode] == [0, 0]
    assert_whole(tmp_path / "checkpoints", script, 2)
