"""Settings of a `CheckpointManager` that most jobs never touch."""

from __future__ import annotations

from dataclasses import dataclass, field

from distckpt.protocol.deadlines import Deadlines
from distckpt.rpc.credentials import Security


@dataclass(frozen=True, slots=True)
class Options:
    """How the workers of one job work together. The same on all workers.

    - `deadlines`: how long anything is waited for.
    - `address`: "host:port" where the chief listens; default: its host in TF_CONFIG and a free port.
    - `credentials`: certificates of your own PKI, or `Insecure()`; default: TLS both ways with keys made for this start
      of the job, handed out through the shared directory.
    - `job`: what this job is called, where neither `distckpt run` nor a scheduler says so; a restart must give the same
      name.
    - `writer_threads`: threads that write a share, per worker.
    """

    deadlines: Deadlines = field(default_factory=Deadlines)
    address: str | None = None
    credentials: Security | None = None
    job: str | None = None
    writer_threads: int = 2
