"""Two real workers under the launcher: the keys of this start stand in the rendezvous file, and nowhere else."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distckpt.launch.job import LocalJob
from distckpt.rpc.rendezvous import FOLDER

RunJob = Callable[..., Any]  # the fixture in conftest.py
WORKERS = Path(__file__).parents[1] / "faults"

TRAINING = """
import json, logging, os, sys
logging.basicConfig(level=logging.DEBUG)
sys.path.insert(0, {workers!r})
import job_worker
index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
told = dict(directory={directory!r}, board={directory!r} + "-board", index=index, count=2, steps=[1, 2])
sys.argv[1:] = [json.dumps(told)]
tell = job_worker.tell
def tell_and_wait(**line):
    tell(**line)
    if "live" in line:  # it has joined, and goes on when the test has looked
        open({directory!r} + f"-looked-{{index}}").read()
job_worker.tell = tell_and_wait
job_worker.main()
"""


def keys_in(file: Path) -> set[str]:
    keys = [worker["key"] for worker in json.loads(file.read_text())["workers"]]
    return {line for key in keys for line in key.splitlines() if not line.startswith("-----")}


def test_no_key_is_in_the_output_the_process_list_an_environment_or_another_file(
    run_job: RunJob, tmp_path: Path
) -> None:
    directory = tmp_path / "checkpoints"
    secrets: set[str] = set()
    shown: list[str] = []
    looked = [tmp_path / f"checkpoints-looked-{worker}" for worker in range(2)]
    for pipe in looked:
        os.mkfifo(pipe)

    def look(job: LocalJob, worker: int, text: bytes) -> None:
        if text.startswith(b'{"live"'):
            for file in (directory / FOLDER).iterdir():
                secrets.update(keys_in(file))
            process = Path("/proc") / str(job._alive[worker].pid)
            shown.extend((process / name).read_text(errors="replace") for name in ("cmdline", "environ"))
            looked[worker].write_text("go on")

    program = TRAINING.format(workers=str(WORKERS), directory=str(directory))
    outcome = run_job(program, react=look)
    assert outcome.code == 0, outcome.texts()
    assert len(secrets) > 2 * 2
    assert sum("job_worker" in each for each in shown) >= 2
    said = [*outcome.texts(), *outcome.said]
    assert any("DEBUG" in text or "INFO" in text for text in said), "they tell all that they have to tell"
    assert not [text[:80] for text in [*shown, *said] for secret in secrets if secret in text]
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert any("manifest" in file.name for file in files)
    assert not [file for file in files for secret in secrets if secret.encode() in file.read_bytes()]
