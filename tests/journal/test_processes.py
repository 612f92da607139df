"""Real processes, one directory: they take it over from one another, and the history is one."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from distckpt.journal.codec import decode_entry
from distckpt.journal.log import Journal
from distckpt.journal.names import slot_key
from distckpt.journal.process import this_process
from distckpt.journal.records import CommitRecord, GenerationRecord
from distckpt.storage.posix import PosixStorage

CHIEF = """
import json, sys
from distckpt.errors import Fenced
from distckpt.journal.log import Journal
from distckpt.journal.process import this_process
from distckpt.journal.records import CommitRecord
from distckpt.model import Checkpoint
from distckpt.storage.posix import PosixStorage

storage = PosixStorage(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
told = []
for life in range(5):
    journal = Journal.open(storage)
    generation = journal.begin(job="job", process=this_process(), world=(), timestamp=0.0)
    try:
        for number in range(6):
            name = f"{sys.argv[2]}-{life}-{number}"
            journal.append(CommitRecord(Checkpoint(name, number, 0.0, generation)))
            told.append([generation, name])
    except Fenced as error:
        told.append([generation, None])
print(json.dumps(told), flush=True)
"""


def test_processes_that_fence_each_other_leave_one_history_with_all_that_they_acknowledged(tmp_path: Path) -> None:
    storage = PosixStorage.create(tmp_path / "job")
    command = [sys.executable, "-c", CHIEF, str(storage.directory)]
    chiefs = [
        subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for name in "abc"
    ]
    try:
        for chief in chiefs:
            assert chief.stdout is not None
            assert chief.stdout.readline() == "ready\n"
        with ThreadPoolExecutor(len(chiefs)) as pool:
            outputs = list(pool.map(lambda chief: chief.communicate("go\n", timeout=90)[0], chiefs))
    finally:
        for chief in chiefs:
            chief.kill()
            chief.wait()
    told = [tuple(each) for output in outputs for each in json.loads(output)]
    state = Journal.open(storage).state
    keys = [slot_key(slot) for slot in range(1, state.slot + 1)]
    entries = [decode_entry(storage.read(key), key) for key in keys]
    commits = [
        (entry.generation, entry.record.checkpoint.name) for entry in entries if isinstance(entry.record, CommitRecord)
    ]
    assert set(commits) == {each for each in told if each[1] is not None}
    assert state.generation == 15, "each of fifteen starts has its own"
    begun = [entry.record for entry in entries if isinstance(entry.record, GenerationRecord)]
    assert {record.process.pid for record in begun} == {chief.pid for chief in chiefs}
    assert {record.process.boot for record in begun} == {this_process().boot}
