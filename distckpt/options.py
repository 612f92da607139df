"""Settings of a `CheckpointManager` that most jobs never touch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from distckpt.errors import ConfigurationError
from distckpt.protocol.cross_check import CrossCheck
from distckpt.protocol.deadlines import Deadlines
from distckpt.rpc.credentials import Security

_PORT_MAX = 65_535

STAGING_BYTES = 64 << 20
"""What a save takes beside copies of variables, on the host: some MiB for each of `writer_threads`, and its lists."""

ChangedWorld = Literal["error", "drop", "spread"]


@dataclass(frozen=True, slots=True)
class Options:
    """How the workers of one job work together. The same on all workers.

    - `deadlines`: how long anything is waited for.
    - `address`: "host:port" where the chief listens; default: its host in TF_CONFIG and a free port.
    - `credentials`: certificates of your own PKI, or `Insecure()`; default: TLS both ways with keys made for this start
      of the job, handed out through the shared directory.
    - `job`: what this job is called, where neither `distckpt run` nor a scheduler says so; a restart must give the same
      name.
    - `writer_threads`: threads that write a share, per worker, beside the training. (A restore, which no training runs
      beside, reads with one for each core, eight at most.)
    - `memory_budget`: bytes of a worker's memory that an asynchronous save may take beside the training. Default: one
      copy of the variables that the steps update meanwhile, and STAGING_BYTES; more it never takes. Where all that is
      saved and STAGING_BYTES are more than the budget, `save` returns after the commit, as without `async_save`: no
      step comes between, so nothing is copied. Less than STAGING_BYTES cannot be kept, and is refused. What
      `snapshot_every` keeps is not in it.
    - `dashboard`: True: the chief serves a page that shows the job, to its machine alone, on a free port; "host:port":
      there.
    - `metrics`: "host:port" where the chief serves metrics for Prometheus; ":port" is for this machine alone.
    - `tensorboard`: a directory, or a writer of `tf.summary.create_file_writer`, for the chief's scalars.
    - `snapshot_every`: K: a snapshot of every K-th step's end is kept in memory, by reference; when a worker dies the
      others commit the newest that they all have, so that a crash costs at most K steps, even when the last save was
      long ago. All workers must call `step_end`, at the same steps. Default: nothing is kept. In a job of one worker,
      which nobody would survive, nothing is kept either.
    - `changed_world`: what a restore does with `worker_state` that another number of workers saved. "error": it raises
      ConfigurationError before anything is restored. "drop": every worker keeps the state that it has. "spread": worker
      i takes that of the old worker i, or where there are more workers now, of i modulo their old number.
    - `link_unchanged`: True: tensors that did not change are not written again; the checkpoints share one file of them
      (a hard link), and if that is damaged, all of them are (docs/operations.md, "Frozen parts of a model").
    - `cross_check`: what a save does where workers hold different values of a mirrored variable, which must not be.
      "warn": it says so and commits; at each save every worker checks an eighth of another one's share. "refuse": it
      raises ReplicasDiffer on all workers, and nothing is committed; all of each share is checked. "off": nothing is.
    """

    deadlines: Deadlines = field(default_factory=Deadlines)
    address: str | None = None
    credentials: Security | None = None
    job: str | None = None
    writer_threads: int = 2
    memory_budget: int | None = None
    dashboard: bool | str = False
    metrics: str | None = None
    tensorboard: Any = None
    snapshot_every: int | None = None
    changed_world: ChangedWorld = "error"
    link_unchanged: bool = False
    cross_check: CrossCheck = "warn"

    def __post_init__(self) -> None:
        if self.memory_budget is not None and self.memory_budget < STAGING_BYTES:
            raise ConfigurationError(
                f"Options(memory_budget={self.memory_budget!r}): a save takes {STAGING_BYTES} bytes even where the "
                "training waits for it; give that or more"
            )
        if self.metrics is not None:
            parse_address(self.metrics, "metrics")
        if isinstance(self.dashboard, str):
            parse_address(self.dashboard, "dashboard")
        if not _is_count(self.writer_threads):
            raise ConfigurationError(f"Options(writer_threads={self.writer_threads!r}): a positive number of threads")
        if self.snapshot_every is not None and not _is_count(self.snapshot_every):
            raise ConfigurationError(
                f"Options(snapshot_every={self.snapshot_every!r}): a positive number of steps, or None"
            )
        _check_choice("changed_world", self.changed_world, get_args(ChangedWorld))
        _check_choice("cross_check", self.cross_check, get_args(CrossCheck))

    def affords(self, size_bytes: int) -> bool:
        """Whether the training may go on while a save of so many bytes is written."""
        return self.memory_budget is None or size_bytes + STAGING_BYTES <= self.memory_budget


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _check_choice(option: str, chosen: str, choices: tuple[str, ...]) -> None:
    if chosen not in choices:
        raise ConfigurationError(f"Options({option}={chosen!r}): one of {', '.join(map(repr, choices))}")


def parse_address(text: str, option: str) -> tuple[str, int]:
    """Host and port of `host:port`; the loopback where no host is named. Raises ConfigurationError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > _PORT_MAX:
        raise ConfigurationError(f'Options({option}=...) takes "host:port", or ":port" for this machine; got {text!r}')
    return host.strip("[]") or "127.0.0.1", int(port)
