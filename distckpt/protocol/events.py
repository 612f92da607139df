"""What happens to the coordinator and to the agents. Frozen values; the runtime makes them, `handle` takes them.

The runtime's duties:
1. It calls `handle(event, now)` of one machine from one thread at a time, with a `now` that never goes back (any
   monotonic clock in seconds; machines on different hosts need not agree).
2. It carries out the effects that come back in their order, and reports each one that says so with the event it names,
   exactly once.
3. It sends a Tick when `next_deadline()` has come. A Tick too early, or one too many, does no harm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from distckpt.model import NO_METRICS, Cause, Check, Checkpoint, Shard, TensorSpec
from distckpt.protocol.messages import AgentEnvelope, CoordinatorEnvelope, Wish

# ------------------------------------------------------------------------------------------------------------- to both


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The manager is being closed (an agent's `cause`: why, where it is not a normal end)."""

    cause: Cause | None = None


# ------------------------------------------------------------------------------------------------- to the coordinator


@dataclass(frozen=True, slots=True)
class Received:
    """An agent's message has come."""

    envelope: AgentEnvelope


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection of this incarnation broke. It may come back: any message of it says so."""

    worker: int
    incarnation: str


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The outcome of CheckProbe. `fault` is None if the probe holds what it should, else what was found."""

    worker: int
    incarnation: str
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class CommitDone:
    """The outcome of Commit: it exists, and retention removed `retired` (names) and left `preserved` for good."""

    round: int
    checkpoint: Checkpoint
    retired: tuple[str, ...] = ()
    preserved: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CommitFailed:
    """The outcome of Commit: it failed.

    `fatal` False: it is certain that no commit record was or will be written; the round is aborted and its files are
    discarded. `fatal` True: the coordinator can go on no more (fenced, or the outcome is unknown: say it in
    `cause.kind`); nothing is discarded.
    """

    round: int
    cause: Cause
    fatal: bool = False


@dataclass(frozen=True, slots=True)
class Quarantined:
    """The outcome of Quarantine, whether or not the files could be set aside: `name` is not considered again."""

    round: int
    name: str


@dataclass(frozen=True, slots=True)
class Superseded:
    """The journal says that `generation` has taken the directory over."""

    generation: int
    cause: Cause


@dataclass(frozen=True, slots=True)
class ToolWishes:
    """A tool wants a save. The answer is WishAnswered(number, ...), always; numbers are never used twice."""

    number: int
    wish: Wish


CoordinatorEvent = (
    Received
    | Disconnected
    | ProbeResult
    | CommitDone
    | CommitFailed
    | Quarantined
    | Superseded
    | ToolWishes
    | Tick
    | Stop
)

# --------------------------------------------------------------------------------------------------------- to an agent


@dataclass(frozen=True, slots=True)
class Started:
    """The first event: the agent begins to join."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A message of the coordinator has come."""

    envelope: CoordinatorEnvelope


@dataclass(frozen=True, slots=True)
class ConnectionMade:
    """The connection to the coordinator stands (again)."""


@dataclass(frozen=True, slots=True)
class ConnectionLost:
    """The connection to the coordinator broke. It may come back: ConnectionMade, or any message, says so."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The training has finished `step`, and maybe others since it was told of one."""

    step: int


@dataclass(frozen=True, slots=True)
class SaveRequested:
    """The training thread called save. The answer is Resolve(ordinal, ...), always.

    `ordinal` is higher than that of any earlier request, save or restore. `captured` says that the snapshot is taken
    already; if it is not (capture runs collectives, so all must have come first), the agent says Proceed when it
    may be, and Captured or SaveFailedLocally follows. `digest` is `plan.specs_digest` of the replicated tensors.
    The next SaveRequested comes after this one's Resolve. `salvage`: it is the answer to SaveKept.
    """

    ordinal: int
    step: int
    name: str
    digest: str
    own_bytes: int
    metrics: Mapping[str, float] = field(default_factory=lambda: NO_METRICS, hash=False)
    captured: bool = True
    salvage: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """A snapshot of the end of `step` was taken, and is held in memory until ReleaseKept or SaveKept. All workers take
    them at the same steps.
    """

    step: int


@dataclass(frozen=True, slots=True)
class Parting:
    """The training is over here, for whatever reason. The answer is Parted, always; Stop comes after it."""


@dataclass(frozen=True, slots=True)
class Captured:
    """The snapshot of save `ordinal` is taken (after Proceed)."""

    ordinal: int


@dataclass(frozen=True, slots=True)
class SaveFailedLocally:
    """This worker cannot do save `ordinal`: before it was requested (then this comes instead), or in its capture."""

    ordinal: int
    cause: Cause


@dataclass(frozen=True, slots=True)
class SpecsGiven:
    """The outcome of DescribeSpecs: the specs of the replicated tensors, sorted by name and part."""

    round: int
    specs: tuple[TensorSpec, ...]


@dataclass(frozen=True, slots=True)
class ShareWritten:
    """The outcome of WriteShare: the shard is durable in staging. `check`: see `messages.Written`."""

    round: int
    share: int
    shard: Shard
    check: Check | None = None


@dataclass(frozen=True, slots=True)
class ShareFailed:
    """The outcome of WriteShare: it could not be written, and nothing of it is left."""

    round: int
    share: int
    cause: Cause


@dataclass(frozen=True, slots=True)
class JournalSeen:
    """The outcome of LookAtJournal. `generation` is the one that holds the directory; None: it could not be read.

    `is_start`: a start of the job, not a survivor that took over. `sign` changes as long as the holder lives;
    `is_gone`: it certainly does not; `has_left`: it said that it goes. `committed`: the checkpoint that was asked for.
    """

    ordinal: int
    generation: int | None
    is_start: bool = True
    sign: str | None = None
    is_gone: bool = False
    has_left: bool = False
    committed: Checkpoint | None = None


@dataclass(frozen=True, slots=True)
class TakeOverEnded:
    """The outcome of TakeOver: `committed`; else `cause`; neither: another generation had begun, nothing was done."""

    ordinal: int
    committed: Checkpoint | None = None
    cause: Cause | None = None


@dataclass(frozen=True, slots=True)
class RestoreRequested:
    """The training thread called restore. The answer is RestoreResolved(ordinal, ...), always.

    `ordinal` as in SaveRequested; `selector` as in RestoreRequest. The next one comes after this one's answer.
    """

    ordinal: int
    selector: str


@dataclass(frozen=True, slots=True)
class VerifyDone:
    """The outcome of VerifyPart: bytes were compared. `fault` tells of bytes that are wrong or missing, None: all well.

    A fault sets the checkpoint aside on all workers: where this worker could not read at all, it is VerifyFailed.
    """

    round: int
    name: str
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class VerifyFailed:
    """The outcome of VerifyPart: this worker could not read (which says nothing of the checkpoint)."""

    round: int
    cause: Cause


@dataclass(frozen=True, slots=True)
class WishMade:
    """This worker wants a save. The answer is WishResolved(number, ...), always; numbers go up from 1."""

    number: int
    wish: Wish


@dataclass(frozen=True, slots=True)
class CeilingSet:
    """The outcome of SetCeiling: the training will be held at the end of `step`."""

    proposal: int
    step: int


AgentEvent = (
    Started
    | Heard
    | ConnectionMade
    | ConnectionLost
    | Progress
    | SaveRequested
    | Kept
    | Parting
    | Captured
    | SaveFailedLocally
    | SpecsGiven
    | ShareWritten
    | ShareFailed
    | JournalSeen
    | TakeOverEnded
    | RestoreRequested
    | VerifyDone
    | VerifyFailed
    | WishMade
    | CeilingSet
    | Tick
    | Stop
)
