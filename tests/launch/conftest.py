"""A local job of small Python programs, and what came of it."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from distckpt.launch.job import JobSpec, LocalJob
from distckpt.launch.process import Stream


@dataclass
class Outcome:
    """`lines` are (worker, stream, text) as they came; `code` is the job's exit code."""

    lines: list[tuple[int, Stream, bytes]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    code: int = -1

    def texts(self, worker: int | None = None) -> list[str]:
        return [text.decode() for who, _, text in self.lines if worker in (None, who)]


RunJob = Callable[..., Outcome]


@pytest.fixture
def run_job() -> RunJob:
    """Runs `python -c program` on `workers` workers. `react(job, worker, text)` sees each line as it comes,
    `hear(text)` what the launcher says.

    `options` are further fields of `JobSpec`.
    """

    def run(
        program: str,
        *,
        workers: int = 2,
        max_restarts: int = 0,
        grace_s: float = 60.0,
        environ: dict[str, str] | None = None,
        react: Callable[[LocalJob, int, bytes], None] = lambda *_: None,
        hear: Callable[[str], None] = lambda _: None,
        **options: Any,
    ) -> Outcome:
        outcome = Outcome()

        def sink(worker: int, stream: Stream, text: bytes) -> None:
            outcome.lines.append((worker, stream, text))
            react(job, worker, text)

        command = (sys.executable, "-c", program)
        spec = JobSpec(command, workers, {**os.environ, **(environ or {})}, max_restarts, grace_s, **options)

        def say(text: str) -> None:
            outcome.said.append(text)
            hear(text)

        job = LocalJob(spec, sink, say)
        outcome.code = job.run()
        return outcome

    return run
