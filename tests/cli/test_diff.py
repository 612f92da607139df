"""`distckpt diff`: what differs between two checkpoints, in words, as JSON, and as an exit code."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

Command = Callable[..., subprocess.CompletedProcess[str]]


def test_other_values_are_told_by_tensor_with_code_3(distckpt: Command, job: Any) -> None:
    job.save(100)
    job.save(200)
    done = distckpt("diff", job.directory, 100, 200)
    assert done.returncode == 3
    heads, first, second, last = done.stdout.splitlines()
    assert heads.split("  ")[0] == "TENSOR"
    assert first.split() == ["layer-0", "values", "1,000", "of", "1,000", "100"]
    assert second.startswith("layer-1")
    assert last == "ckpt-100 and ckpt-200: 2 of 2 tensors differ."


def test_the_same_is_code_0(distckpt: Command, job: Any) -> None:
    job.save(100)
    done = distckpt("diff", job.directory, 100, 100)
    assert (done.returncode, done.stdout) == (
        0,
        "ckpt-100 and ckpt-100: all 2 tensors are the same, bit for bit.\n",
    )


def test_as_json_each_difference_has_its_forms_and_numbers(distckpt: Command, job: Any) -> None:
    job.save(100)
    job.save(200)
    told = json.loads(distckpt("diff", job.directory, 100, 200, "--json").stdout)
    form = {"dtype": "float32", "shape": [1000]}
    assert not told["same"]
    assert (told["a"], told["b"], told["compared"]) == ("ckpt-100", "ckpt-200", 2)
    assert told["differences"][0] == {
        "tensor": "layer-0",
        "before": form,
        "after": form,
        "elements": 1000,
        "max_abs": 100.0,
    }


def test_a_corrupt_one_is_an_error_not_a_difference(distckpt: Command, job: Any) -> None:
    job.save(100)
    job.save(200)
    path = job.directory / "ckpt-200.data-00000-of-00002"
    path.write_bytes(b"x" + path.read_bytes()[1:])
    done = distckpt("diff", job.directory, 100, 200)
    assert done.returncode == 1
    assert done.stderr.endswith(f"{path.name}: layer-0: the checksum does not match\n")


def test_a_step_that_is_not_there_is_named(distckpt: Command, job: Any) -> None:
    job.save(100)
    done = distckpt("diff", job.directory, 100, 7)
    assert done.returncode == 1
    assert done.stderr == f"distckpt: {job.directory}: no checkpoint of step 7; there are: 100\n"
