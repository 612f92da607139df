"""A local job of small Python programs, and what came of it."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

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
    """Runs `python -c program` on `workers` workers. `react(job, worker, text)` sees each line as it comes."""

    def run(
        program: str,
        *,
        workers: int = 2,
        max_restarts: int = 0,
        grace_s: float = 60.0,
        environ: dict[str, str] | None = None,
        react: Callable[[LocalJob, int, bytes], None] = lambda *_: None,
    ) -> Outcome:
        outcome = Outcome()

        def sink(worker: int, stream: Stream, text: bytes) -> None:
            outcome.lines.append((worker, stream, text))
            react(job, worker, text)

        spec = JobSpec(
            (sys.executable, "-c", program), workers, {**os.environ, **(environ or {})}, max_restarts, grace_s
        )
        job = LocalJob(spec, sink, outcome.said.append)
        outcome.code = job.run()
        return outcome

    return run
