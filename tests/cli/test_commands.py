"""`distckpt ls`, `show` and `verify`, as processes in which TensorFlow cannot be imported."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distckpt import Catalog
from distckpt.cli.main import main
from distckpt.protocol.retention import KeepLatest, Preservation

Command = Callable[..., subprocess.CompletedProcess[str]]


def flip_a_byte(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def test_ls_lists_the_commits_in_order(distckpt: Command, job: Any) -> None:
    job.save(100, {"loss": 0.5})
    job.save(200)
    done = distckpt("ls", job.directory)
    heads, first, second = done.stdout.splitlines()
    assert done.returncode == 0
    assert heads.split() == ["STEP", "NAME", "COMMITTED", "SIZE", "DATA", "FILES", "WRITTEN", "BY", "KEPT", "METRICS"]
    assert first.split()[:2] == ["100", "ckpt-100"]
    assert first.split()[-4:] == ["2", "generation", "1", "loss=0.5"]
    assert second.split()[:2] == ["200", "ckpt-200"]


def test_ls_as_json_says_all_that_the_journal_knows(distckpt: Command, job: Any) -> None:
    job.save(100, {"loss": 0.5, "odd": float("nan")})
    (found,) = json.loads(distckpt("ls", job.directory, "--json").stdout)["checkpoints"]
    files = {each["file"]: each["bytes"] for each in found["files"]}
    assert found["step"] == 100
    assert found["metrics"] == {"loss": 0.5, "odd": None}
    assert found["bytes"] == sum(files.values())
    assert files["ckpt-100.data-00000-of-00002"] == 4000
    assert not found["adopted"]


def test_ls_tells_what_is_preserved(distckpt: Command, job: Any) -> None:
    job.committer.policy, job.committer.preservation = KeepLatest(1), Preservation(1e-9)
    job.save(100)
    job.save(200)
    _, first, second = distckpt("ls", job.directory).stdout.splitlines()
    assert first.endswith("generation 1  for good")
    assert "for good" not in second
    found = json.loads(distckpt("ls", job.directory, "--json").stdout)["checkpoints"]
    assert [each["preserved"] for each in found] == [True, False]


def test_ls_tells_what_was_set_aside_and_why(distckpt: Command, job: Any) -> None:
    job.save(100)
    job.save(200)
    job.committer.quarantine("ckpt-200", "a shard is short")
    done = distckpt("ls", job.directory)
    assert done.stdout.splitlines()[-1] == "set aside: ckpt-200: a shard is short"
    as_json = json.loads(distckpt("ls", job.directory, "--json").stdout)
    assert [each["name"] for each in as_json["checkpoints"]] == ["ckpt-100"]
    assert [(each["name"], each["reason"]) for each in as_json["quarantined"]] == [("ckpt-200", "a shard is short")]


def test_show_names_every_file_its_writer_and_every_tensor(distckpt: Command, job: Any) -> None:
    job.save(100)
    done = distckpt("show", job.directory, 100)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert ["job", "digits"] in lines
    assert ["ckpt-100.data-00001-of-00002", "4,000", "worker", "1"] in lines
    assert ["layer-1", "float32", "1000", "4,000", "1"] in lines


def test_show_says_how_much_stands_in_files_that_other_checkpoints_share(distckpt: Command, job: Any) -> None:
    job.save(100)
    assert "linked" not in distckpt("show", job.directory, 100).stdout
    job.save_unchanged(200)
    lines = [line.split() for line in distckpt("show", job.directory, 200).stdout.splitlines()]
    assert ["linked", "8.0", "KB", "stand", "in", "files", "shared", "with", "other", "checkpoints"] in lines
    written_by = ["worker", "1,", "for", "an", "earlier", "checkpoint"]
    assert ["ckpt-200.data-00001-of-00002", "4,000", *written_by] in lines
    found = json.loads(distckpt("show", job.directory, 200, "--json").stdout)
    assert (found["workers"], found["linked"]) == ([0, 1], [0, 1])
    assert distckpt("verify", job.directory).returncode == 0


def test_what_only_one_worker_has_is_shown_as_that_and_counts_as_no_data_file(distckpt: Command, job: Any) -> None:
    job.save(100, states=[1])
    lines = [line.split() for line in distckpt("show", job.directory, 100).stdout.splitlines()]
    assert ["worker", "states", "1", "of", "2", "workers"] in lines
    name = "ckpt-100.worker-00001-of-00002"
    assert [f"{name}.data-00000-of-00001", "4,000", "worker", "1,", "its", "own", "state"] in lines
    found = json.loads(distckpt("show", job.directory, 100, "--json").stdout)
    assert found["worker_states"] == {"1": name}
    assert found["tensor_bytes"] == 8000
    row = distckpt("ls", job.directory).stdout.splitlines()[1].split()
    assert "2" in row, "data files"
    assert "3" not in row
    assert distckpt("verify", job.directory).returncode == 0


def test_show_as_json_says_where_each_tensor_stands(distckpt: Command, job: Any) -> None:
    job.save(100)
    found = json.loads(distckpt("show", job.directory, 100, "--json").stdout)
    assert found["workers"] == [0, 1]
    assert found["tensor_bytes"] == 8000
    tensor = found["tensors"][1]
    assert tensor.pop("crc32c") > 0
    assert tensor == {
        "name": "layer-1",
        "dtype": "float32",
        "shape": [1000],
        "slice": None,
        "shard": 1,
        "offset": 0,
        "bytes": 4000,
    }


def test_verify_ends_with_a_sentence_and_code_0_where_all_is_well(distckpt: Command, job: Any) -> None:
    job.save(100)
    job.save(200)
    done = distckpt("verify", job.directory)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].startswith("Read 2 checkpoints, ")
    assert done.stdout.splitlines()[-1].endswith(": every byte is what was written.")


@pytest.mark.parametrize(
    ("file", "position"),
    [
        ("ckpt-200.data-00000-of-00002", 0),
        ("ckpt-200.data-00001-of-00002", 3999),
        ("ckpt-200.index", 20),
        ("ckpt-200.manifest.json", 20),
    ],
)
def test_verify_finds_one_wrong_bit_in_any_file_and_ends_with_code_1(
    distckpt: Command, job: Any, file: str, position: int
) -> None:
    job.save(100)
    job.save(200)
    flip_a_byte(job.directory / file, position)
    done = distckpt("verify", job.directory)
    assert done.returncode == 1
    assert f"\n  {file}: " in done.stdout
    assert re.fullmatch(r"ckpt-100: .* KB: sound", done.stdout.splitlines()[0])
    last = "Of 2 checkpoints, 1 cannot be trusted: ckpt-200. A restore takes the newest one that is sound."
    assert done.stdout.splitlines()[-1] == last
    assert distckpt("verify", job.directory, 100).returncode == 0


@pytest.mark.parametrize("file", ["ckpt-100.data-00000-of-00002", "ckpt-100.index", "ckpt-100.manifest.json"])
def test_verify_names_a_missing_file_once(distckpt: Command, job: Any, file: str) -> None:
    job.save(100)
    (job.directory / file).unlink()
    done = distckpt("verify", job.directory, 100)
    assert done.returncode == 1
    assert done.stdout.count(f"  {file}: it is missing") == 1


def test_verify_as_json_lists_the_faults(distckpt: Command, job: Any) -> None:
    job.save(100)
    path = job.directory / "ckpt-100.data-00001-of-00002"
    path.write_bytes(path.read_bytes() + b"x")
    done = distckpt("verify", job.directory, "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert not found["ok"]
    (fault,) = found["checkpoints"][0]["faults"]
    assert fault == {"file": path.name, "tensor": "", "detail": "it has 4001 bytes; 4000 were committed"}


def test_verify_finds_what_is_wrong_with_a_checkpoint_that_has_a_metric_which_is_no_number(
    distckpt: Command, job: Any
) -> None:
    job.save(100, {"loss": float("nan")})
    flip_a_byte(job.directory / "ckpt-100.data-00000-of-00002", 7)
    done = distckpt("verify", job.directory)
    assert done.returncode == 1, "the same checkpoint, read twice, is not equal: its NaN is not"
    assert "cannot be trusted: ckpt-100" in done.stdout


def test_what_retention_removes_while_it_is_verified_is_no_fault(
    job: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job.save(100)
    job.save(200)
    verify = Catalog.verify

    def removed_meanwhile(catalog: Catalog, which: Any, **named: Any) -> Any:
        if which.step == 100:
            job.committer.policy = KeepLatest(1)
            job.committer.retire()
        return verify(catalog, which, **named)

    monkeypatch.setattr(Catalog, "verify", removed_meanwhile)
    assert main(["verify", str(job.directory)]) == 0
    out = capsys.readouterr().out
    assert "ckpt-100" not in out
    assert "Read 1 checkpoint, " in out


def test_verify_shows_on_a_terminal_how_far_it_has_come(job: Any) -> None:
    job.save(100)
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "distckpt.cli.main", "verify", str(job.directory), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, text=True, timeout=60, check=True)
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert re.search(r"\[#* *\] +\d+%  [\d.]+ K?B of \d+\.\d KB, ", shown)
    assert shown.endswith("\r\x1b[K"), "and leaves nothing there"
    assert json.loads(done.stdout)["ok"]


def test_reading_commands_write_nothing(distckpt: Command, job: Any, contents: Callable[[Path], object]) -> None:
    job.save(100)
    before = contents(job.directory)
    for arguments in (["ls"], ["verify"]):
        assert distckpt(*arguments, job.directory).returncode == 0
    assert distckpt("show", job.directory, 100).returncode == 0
    assert contents(job.directory) == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["ls", "absent"], "absent: no such directory"),
        (["verify", "absent"], "absent: no such directory"),
        (["ls", "empty"], "empty: no checkpoints: neither distckpt nor TensorFlow saved here"),
        (["verify", "empty"], "empty: no checkpoints to verify"),
        (["ls", "file"], "file: not a directory"),
        (["show", "checkpoints", "7"], "checkpoints: no checkpoint of step 7; there are: 100, 200"),
        (["verify", "checkpoints", "7"], "checkpoints: no checkpoint of step 7; there are: 100, 200"),
    ],
)
def test_an_error_is_one_line_that_names_the_thing(
    distckpt: Command, job: Any, tmp_path: Path, arguments: list[str], says: str
) -> None:
    job.save(100)
    job.save(200)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    command, directory, *rest = arguments
    done = distckpt(command, tmp_path / directory, *rest)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"distckpt: {tmp_path}/{says}\n"


def test_a_garbage_state_file_is_an_error_and_stays_as_it_is(
    distckpt: Command, tmp_path: Path, contents: Callable[[Path], object]
) -> None:
    (tmp_path / "checkpoint").write_bytes(b"\x00 no such thing")
    before = contents(tmp_path)
    done = distckpt("ls", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"distckpt: {tmp_path}: checkpoint: ")
    assert done.stderr.count("\n") == 1
    assert contents(tmp_path) == before


def test_a_corrupt_journal_is_one_line(distckpt: Command, job: Any) -> None:
    job.save(100)
    record = next((job.directory / ".distckpt" / "journal").glob("*2.json"))
    flip_a_byte(record, 30)
    done = distckpt("ls", job.directory)
    assert done.returncode == 1
    assert done.stderr.startswith(f"distckpt: {job.directory}: .distckpt/journal/{record.name}: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["frob"],
        ["ls"],
        ["show", "d"],
        ["show", "d", "x"],
        ["show", "d", "-1"],
        ["run", "--workers", "0"],
        ["tf-config", "--port", "65536"],
    ],
)
def test_a_wrong_command_line_is_code_2(distckpt: Command, arguments: list[str]) -> None:
    done = distckpt(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: distckpt")


def test_an_output_that_nobody_reads_is_no_error(job: Any) -> None:
    job.save(100)
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "distckpt.cli.main", "show", str(job.directory), "100"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_launching_imports_no_tensorflow() -> None:
    code = "import sys, distckpt.cli.run, distckpt.cli.demo; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


@pytest.mark.parametrize("command", ["ls", "verify"])
def test_what_takes_long_to_import_is_not_imported(job: Any, command: str) -> None:
    """What keeps the commands under half a second: neither TensorFlow, nor what only a job needs."""
    job.save(100)
    code = (
        "import sys; from distckpt.cli.main import main; main(); "
        "print([name for name in ('tensorflow', 'keras', 'grpc', 'cryptography') if name in sys.modules])"
    )
    arguments = [sys.executable, "-c", code, command, str(job.directory)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_demo_overwrites_nothing(distckpt: Command, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    done = distckpt("demo", "--keep", tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"distckpt: {tmp_path}: not empty: give --keep a directory that is empty or absent\n"


def test_run_ends_with_the_code_of_the_worker_that_failed(distckpt: Command) -> None:
    done = distckpt("run", "--workers", "1", "--", sys.executable, "-c", "print('here'); raise SystemExit(7)")
    assert (done.returncode, done.stdout) == (7, "[worker 0] here\n")
    assert done.stderr == "[distckpt] worker 0 exited with code 7\n"


def test_tf_config_prints_one_line_of_json(distckpt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    done = distckpt("tf-config", "--hosts", "train-[0-1].train", "--port", "5000")
    assert done.returncode == 0
    assert done.stdout.count("\n") == 1
    assert json.loads(done.stdout) == {
        "cluster": {"worker": ["train-0.train:5000", "train-1.train:5000"]},
        "task": {"type": "worker", "index": 1},
    }


def test_tf_config_becomes_the_command_with_tf_config_set(distckpt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "0")
    show = "import os, sys; print(os.environ['TF_CONFIG'], sys.argv[1:]); raise SystemExit(7)"
    done = distckpt("tf-config", "--hosts", "a", "--", sys.executable, "-c", show, "--hosts", "--", "x")
    assert done.returncode == 7
    assert done.stdout.startswith('{"cluster": {"worker": ["a:2222"]}')
    assert done.stdout.endswith("['--hosts', '--', 'x']\n")


def test_tf_config_starts_nothing_where_the_place_is_not_known(distckpt: Command) -> None:
    done = distckpt("tf-config", "--", sys.executable, "-c", "print('started')")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("distckpt: nothing tells this process its place in a cluster: looked for TF_CONFIG,")


def test_tf_config_says_which_command_cannot_be_run(distckpt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "0")
    done = distckpt("tf-config", "--hosts", "a", "--", "no-such-program")
    assert (done.returncode, done.stderr) == (
        1,
        "distckpt: no-such-program: cannot be run: No such file or directory\n",
    )


def test_run_says_which_command_does_not_exist(distckpt: Command) -> None:
    done = distckpt("run", "--workers", "1", "--max-restarts", "3", "--", "no-such-program", "x")
    assert done.returncode == 1
    assert done.stderr == "distckpt: no-such-program: no such command: give the program after --, as a shell finds it\n"


def test_run_stops_when_nobody_reads_its_output() -> None:
    program = "import itertools; [print(count) for count in itertools.count()]"
    command = [sys.executable, "-m", "distckpt.cli.main", "run", "--workers", "2", "--", sys.executable, "-c", program]
    job = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert job.stdout is not None
    job.stdout.readline()
    job.stdout.close()
    assert job.wait(timeout=60) == 128 + signal.SIGTERM
