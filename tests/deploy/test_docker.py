"""deploy/docker without a Docker engine: what can be held of the Dockerfile and the compose file by other means."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from orchestrators.container import FULL, ROOT, StartContainer, manifest

from distckpt import Catalog
from distckpt.launch.tf_config import resolve

DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"
COMPOSE = "docker/compose.yaml"


@dataclass(frozen=True)
class Instruction:
    stage: int
    name: str
    value: str


def instructions() -> list[Instruction]:
    found = []
    stage = -1
    for line in DOCKERFILE.read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.partition(" ")
            stage += name == "FROM"
            found.append(Instruction(stage, name, value))
    return found


def values(name: str) -> list[str]:
    return [each.value for each in instructions() if each.name == name]


def copied() -> list[tuple[list[str], str]]:
    """What is copied from the repository: sources and target."""
    return [
        (words[:-1], words[-1])
        for value in values("COPY")
        if not value.startswith("--from") and (words := value.split())
    ]


def test_the_dockerfile_has_only_instructions_that_this_test_understands() -> None:
    assert {each.name for each in instructions()} == {"FROM", "WORKDIR", "RUN", "COPY", "ENV", "USER", "CMD"}
    assert len(instructions()) == sum(
        not line.startswith("#") and bool(line) for line in DOCKERFILE.read_text().splitlines()
    )


def test_the_base_is_a_named_version_and_the_user_is_not_root() -> None:
    bases = [value.split()[0] for value in values("FROM")]
    assert len(set(bases)) == 1, "what is installed for one Python runs on the same"
    version = re.fullmatch(r"python:(\d+\.\d+)-slim-\w+", bases[0])
    assert version
    assert version[1] == "3.11"
    assert values("USER") == ["10001:10001"]


def test_every_installation_is_from_the_lock_or_from_this_tree() -> None:
    installs = [value for value in values("RUN") if "pip install" in value]
    assert len(installs) == 2
    assert "--require-hashes --requirement requirements/runtime.txt" in installs[0]
    assert "--no-deps" in installs[1]


def test_all_that_is_copied_is_there_and_is_sent_to_the_builder() -> None:
    lines = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().splitlines()
    sent = {line.removeprefix("!") for line in lines if line.startswith("!")}
    sources = {source for group, _ in copied() for source in group}
    assert sources == sent
    assert all((ROOT / source).exists() for source in sources)


def build(folder: Path, *, install_lock: bool) -> Path:
    """Runs the first stage's instructions below `folder`; returns what became of /opt/distckpt."""
    venv, work = folder / "opt", folder / "build"
    work.mkdir()
    environ = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    environ.pop("PYTHONPATH", None)
    if not install_lock:  # then what the lock pins is taken from the tests' own environment
        environ["PYTHONPATH"] = sysconfig.get_path("purelib")
    for each in instructions():
        if each.stage == 0 and each.name == "COPY":
            copy(each.value.split(), work)
        elif each.stage == 0 and each.name == "RUN" and (install_lock or "requirements" not in each.value):
            command = shlex.split(each.value.replace("/opt/distckpt", str(venv)))
            if command[0] == "python":
                command[0] = sys.executable
            done = subprocess.run(command, cwd=work, env=environ, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
    return venv


def copy(words: list[str], work: Path) -> None:
    *sources, target = words
    for source in sources:
        to = work / target if len(sources) == 1 and not target.endswith("/") else work / target / Path(source).name
        to.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, to, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, to)


def files(folder: Path) -> set[Path]:
    found = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    return {path for path in found if path.suffix not in (".pyc", ".pyi")}


def run_in_the_image(venv: Path, command: list[str], **environ: str) -> subprocess.CompletedProcess[str]:
    image = {"PATH": f"{venv / 'bin'}:{os.defpath}", "HOME": str(venv.parent), **environ}
    return subprocess.run(command, env=image, cwd=venv.parent, capture_output=True, text=True, check=False)


def test_the_package_is_installed_whole_and_the_images_command_runs(tmp_path: Path) -> None:
    venv = build(tmp_path, install_lock=False)
    (installed,) = venv.glob("lib/python*/site-packages/distckpt")
    assert files(installed) == files(ROOT / "distckpt")
    (command,) = values("CMD")
    done = run_in_the_image(venv, json.loads(command), PYTHONPATH=sysconfig.get_path("purelib"))
    assert done.returncode == 0, done.stderr
    assert "tf-config" in done.stdout


@FULL
@pytest.mark.timeout(1200)
def test_all_steps_of_the_build_run_and_the_image_trains(tmp_path: Path) -> None:
    """With what the lock pins, downloaded anew: several hundred MB."""
    venv = build(tmp_path, install_lock=True)
    command = ["distckpt", "run", "--workers", "2", "--", "python", str(ROOT / "examples" / "custom_loop.py"), "run-1"]
    done = run_in_the_image(venv, command, CUDA_VISIBLE_DEVICES="-1")
    assert done.returncode == 0, done.stderr
    assert "step 30: loss" in done.stdout


def workers() -> dict[str, dict[str, Any]]:
    return {name: each for name, each in manifest(COMPOSE)["services"].items() if name.startswith("worker-")}


def test_composes_workers_are_one_cluster_under_the_names_of_their_services() -> None:
    for index, (name, worker) in enumerate(sorted(workers().items())):
        config = json.loads(resolve(worker["environment"]))
        assert config["task"] == {"type": "worker", "index": index}
        assert config["cluster"]["worker"] == [f"{each}:2222" for each in sorted(workers())]
        assert config["cluster"]["worker"][index].startswith(name)


def test_composes_files_volumes_and_users_fit_together() -> None:
    compose = manifest(COMPOSE)
    folder = ROOT / "deploy" / "docker"
    for worker in workers().values():
        assert (folder / worker["build"]["context"]).resolve() == ROOT
        assert (ROOT / worker["build"]["dockerfile"]) == DOCKERFILE
        assert worker["init"] is True
        assert worker["restart"].startswith("on-failure")
        (volume,) = worker["volumes"]
        assert volume.split(":")[0] in compose["volumes"]
        assert (ROOT / worker["command"][1]).exists(), "the image's folder is /app, which holds the examples"
    assert compose["services"]["permissions"]["command"][1] == values("USER")[0]


@FULL
def test_composes_workers_train_are_killed_and_resume(start: StartContainer, tmp_path: Path, port: int) -> None:
    def up() -> list[Any]:
        started = []
        for index, worker in enumerate(workers().values()):
            config = worker["environment"]["TF_CONFIG"]
            for other in range(2):
                config = config.replace(f"worker-{other}:2222", f"127.0.0.1:{port + other}")
            command = [each.replace("/checkpoints", str(tmp_path)) for each in worker["command"]]
            started.append(start(command, {**worker["environment"], "TF_CONFIG": config}))
            assert json.loads(config)["task"]["index"] == index
        return started

    containers = up()
    containers[0].wait_for("step 10:")
    containers[1].send(signal.SIGKILL)
    assert [each.wait() for each in containers] == [1, -signal.SIGKILL], (
        "each is a failure, after which compose restarts"
    )
    assert [each.wait() for each in up()] == [0, 0]
    latest = Catalog(tmp_path / "run-1").latest
    assert latest is not None
    assert latest.step == 300
