"""A stand-in for what starts the containers of `deploy/`: it runs their very commands, with their very environment, as
processes of this machine. What it replaces: paths of volumes (folders below `tmp_path`), names of pods (the loopback)
and ports (free ones).
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
DEADLINE_S = 120.0

FULL = pytest.mark.skipif(
    not os.environ.get("DISTCKPT_DEPLOY_FULL"),
    reason="half a minute: `make deploy` sets DISTCKPT_DEPLOY_FULL",
)
_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_]*)\)")

Manifest = dict[str, Any]


def manifest(path: str) -> Manifest:
    """One of deploy's YAML files."""
    loaded: Manifest = yaml.safe_load((ROOT / "deploy" / path).read_text())
    return loaded


def expanded(text: str, known: Mapping[str, str]) -> str:
    """`$(NAME)` as Kubernetes expands it in commands and environments; `$$` is a dollar, what is not known stays."""
    return _REFERENCE.sub(lambda match: known.get(match[1], match[0]) if match[1] else "$", text)


def container_environment(
    container: Manifest, metadata: Mapping[str, str], injected: Mapping[str, str]
) -> dict[str, str]:
    """In the manifest's order, as the kubelet resolves it. `metadata` by field path, as the downward API has it."""
    environ = dict(injected)
    for each in container.get("env", ()):
        value = each["value"] if "value" in each else metadata[each["valueFrom"]["fieldRef"]["fieldPath"]]
        environ[each["name"]] = expanded(value, environ)
    return environ


class Container:
    """A process with its lines. `environ` is all it finds, beside what an image has: PATH, HOME and this tree."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], home: Path) -> None:
        image = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(home),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "CUDA_VISIBLE_DEVICES": "-1",
        }
        self.environ = {**image, **environ}
        self.lines: list[str] = []
        self._queue: Queue[str | None] = Queue()
        self.process = subprocess.Popen(
            list(command),
            env=self.environ,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(line.rstrip("\n"))
        self._queue.put(None)

    def wait_for(self, text: str) -> None:
        """Until a line has `text` in it. Fails, with all lines, if the process ends before, or is silent."""
        while True:
            line = self._queue.get(timeout=DEADLINE_S)
            assert line is not None, f"it ended without {text!r}:\n" + "\n".join(self.lines)
            self.lines.append(line)
            if text in line:
                return

    def wait(self) -> int:
        """The exit code, as `subprocess` says it, with all lines read."""
        code = self.process.wait(DEADLINE_S)
        self._reader.join()
        while (line := self._queue.get()) is not None:
            self.lines.append(line)
        return code

    def send(self, signum: int) -> None:
        self.process.send_signal(signum)

    def end(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


StartContainer = Callable[[Sequence[str], Mapping[str, str]], Container]
