"""What agents and the coordinator say to each other. Frozen values; `rpc/` turns them into protobuf and back.

Every message travels in an `Envelope` that says whom it is from: job, generation, worker, incarnation. An *incarnation*
is a random name drawn at every start of a process, so that a restarted worker is never taken for its predecessor. An
*ordinal* counts what one incarnation asked for, from 1: saves and restores in one count, so that an answer can never be
taken for another's; a *round* is the coordinator's number for an attempt, from 1 in each generation, shared by saves
and restores.

Every message may be lost, repeated, delayed and reordered. Who waits for an answer repeats its message until it has
one; who gets a repeated message answers as before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from distckpt.model import NO_METRICS, Cause, Check, Checkpoint, Shard, Split, TensorSpec

# ------------------------------------------------------------------------------------------------- agent -> coordinator


@dataclass(frozen=True, slots=True)
class Join:
    """The first message of an incarnation, repeated until Welcome or Rejected.

    `probe` is the key of a small file that this worker wrote into the directory (content: its incarnation), so that the
    chief can see that both look at the same one. `host`, `pid` and `address` (from TF_CONFIG) are for people.
    """

    world_size: int
    host: str
    pid: int
    probe: str
    address: str = ""


@dataclass(frozen=True, slots=True)
class Stall:
    """A save, the request number `ordinal`, held the training thread for `seconds`."""

    ordinal: int
    step: int
    seconds: float


STALLS_MAX = 8
KEPT_MAX = 2


@dataclass(frozen=True, slots=True)
class Activity:
    """For people; nothing is decided by it. The share of round `round` (0: none yet) and how much of it is written;
    the last STALLS_MAX stalls, oldest first.
    """

    round: int = 0
    written_bytes: int = 0
    share_bytes: int = 0
    stalls: tuple[Stall, ...] = ()


IDLE = Activity()


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Sent every `heartbeat_s`, answered by Alive. `step`: the last that the training told of, -1 before the first.

    `kept`: the steps, oldest first, at whose end a snapshot was taken that is in memory still. `parting`: the training
    is over here, and this worker stays only for as long as the others may need those.
    """

    step: int
    activity: Activity = IDLE
    kept: tuple[int, ...] = ()
    parting: bool = False


@dataclass(frozen=True, slots=True)
class Announce:
    """This worker's training thread called save for `step` (its request number `ordinal`).

    `digest` is of the specs of the replicated tensors, the same on all workers if their models are. `own_bytes` is how
    much this worker has to write that only it has. `name` is the checkpoint's prefix below the directory. `captured`:
    the values are taken; where taking them runs collectives, that needs all workers and comes after the decision.
    `salvage`: nobody called; it is a snapshot that was kept, because a worker is lost.
    """

    ordinal: int
    step: int
    name: str
    digest: str
    own_bytes: int
    metrics: Mapping[str, float] = field(default_factory=lambda: NO_METRICS, hash=False)
    captured: bool = False
    salvage: bool = False


@dataclass(frozen=True, slots=True)
class Described:
    """The answer to Describe: the specs of the replicated tensors, sorted by name and part."""

    round: int
    specs: tuple[TensorSpec, ...]


@dataclass(frozen=True, slots=True)
class Written:
    """Share number `share`, which is this worker's to write, is durable in staging. `check`: what it found of another
    worker's share in its own memory (`cross_check`).
    """

    round: int
    share: int
    shard: Shard
    check: Check | None = None


@dataclass(frozen=True, slots=True)
class NotWritten:
    """This worker could not write share number `share`. It still holds the values, and waits for the outcome."""

    round: int
    share: int
    cause: Cause


@dataclass(frozen=True, slots=True)
class Failed:
    """This worker cannot do its part of a round (or of its announced save `ordinal`, where `round` is 0)."""

    round: int
    ordinal: int
    cause: Cause


@dataclass(frozen=True, slots=True)
class RestoreRequest:
    """This worker's training thread asked to restore (its request number `ordinal`).

    `selector` is "latest", a step in decimal, or "best:METRIC:MODE"; it must be the same on all workers.
    """

    ordinal: int
    selector: str


@dataclass(frozen=True, slots=True)
class Verified:
    """This worker's part of the checksums of candidate `name` was read and compared. `fault`: None if all was well."""

    round: int
    name: str
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Leave:
    """This worker is done. `cause` is None at a normal end."""

    cause: Cause | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """Someone wants a save that no worker foresaw.

    `within_s`: after so long it is over, whatever came of it. `final`: the job ends after this save.
    """

    reason: str
    within_s: float
    final: bool = False


@dataclass(frozen=True, slots=True)
class SaveWanted:
    """This worker has wish `number` (from 1, counted by its incarnation). Repeated until WishOver."""

    number: int
    wish: Wish


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The answer to Propose: this worker's training will not go beyond the end of `step` before it knows the decision,
    or has waited for it in vain. Repeated until Agreed or Withdrawn.
    """

    proposal: int
    step: int


AgentMessage = (
    Join
    | Heartbeat
    | Announce
    | Described
    | Written
    | NotWritten
    | Failed
    | RestoreRequest
    | Verified
    | Leave
    | SaveWanted
    | Ceiling
)

# ------------------------------------------------------------------------------------------------- coordinator -> agent


@dataclass(frozen=True, slots=True)
class Welcome:
    """This incarnation takes part. `checkpoints` are the live ones, oldest first."""

    generation: int
    checkpoints: tuple[Checkpoint, ...]


@dataclass(frozen=True, slots=True)
class Rejected:
    """This incarnation does not take part, and never will."""

    cause: Cause


@dataclass(frozen=True, slots=True)
class Decided:
    """All workers that can announced `step`: this is round `round`. `ordinal` is the receiver's own.

    The plan follows from this alone: replicated specs, `own_bytes[i]` of worker i, `weights[i]` (how fast it writes;
    empty: all the same); there are `len(own_bytes)` workers. Said again with more `splits` when a share is given up; no
    split is ever taken back.
    """

    round: int
    ordinal: int
    step: int
    own_bytes: tuple[int, ...]
    splits: tuple[Split, ...] = ()
    weights: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Describe:
    """The digests of the workers differ: say what you have, so that the first difference can be named."""

    round: int
    ordinal: int


@dataclass(frozen=True, slots=True)
class Committed:
    """The save exists. `checkpoint` has no files here; `retired` are the names that left the active set."""

    round: int
    ordinal: int
    checkpoint: Checkpoint
    retired: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Aborted:
    """The round (save or restore) was given up; nothing of it remains."""

    round: int
    ordinal: int
    cause: Cause


@dataclass(frozen=True, slots=True)
class Verify:
    """Read and compare part `part` of `parts` of checkpoint `name`, whose manifest has `manifest_sha256` (see
    model.Checkpoint).
    """

    round: int
    ordinal: int
    name: str
    part: int
    parts: int
    manifest_sha256: str = ""


@dataclass(frozen=True, slots=True)
class RestoreDecided:
    """All restore `name` (None: there is no checkpoint). `quarantined`: found corrupt and set aside, newest first."""

    round: int
    ordinal: int
    name: str | None
    quarantined: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Alive:
    """The answer to a Heartbeat: the coordinator is there, also while it has nothing to say (in a long gathering).

    `may_go`: whoever is parting may leave: nobody needs its snapshots any more.
    """

    may_go: bool = False


@dataclass(frozen=True, slots=True)
class Salvage:
    """A worker is lost: announce the snapshot that was kept of the end of `step`. Repeated while it is kept."""

    step: int


@dataclass(frozen=True, slots=True)
class FencedOff:
    """A later generation has taken the directory over: stop for good."""

    generation: int
    cause: Cause


@dataclass(frozen=True, slots=True)
class Propose:
    """A save is wanted: say a Ceiling. Repeated until it has come. Proposals are counted from 1 in each generation."""

    proposal: int


@dataclass(frozen=True, slots=True)
class Agreed:
    """All save at the first end of a step that is `step` or later. `reason`, `final`: the wishes'."""

    proposal: int
    step: int
    reason: str
    final: bool


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """Nobody saves on account of this proposal (any more)."""

    proposal: int
    cause: Cause


@dataclass(frozen=True, slots=True)
class WishOver:
    """Wish `number` of the receiver is fulfilled (`name`: the checkpoint, of `step`), or came to nothing (`cause`)."""

    number: int
    name: str = ""
    step: int = -1
    cause: Cause | None = None


CoordinatorMessage = (
    Welcome
    | Rejected
    | Decided
    | Describe
    | Committed
    | Aborted
    | Verify
    | RestoreDecided
    | Alive
    | Salvage
    | FencedOff
    | Propose
    | Agreed
    | Withdrawn
    | WishOver
)


# ------------------------------------------------------------------------------------------------------------- envelope


@dataclass(frozen=True, slots=True)
class Sender:
    """Who speaks: both ends check every field of every message."""

    job: str
    generation: int
    worker: int
    incarnation: str


@dataclass(frozen=True, slots=True)
class AgentEnvelope:
    sender: Sender
    message: AgentMessage


@dataclass(frozen=True, slots=True)
class CoordinatorEnvelope:
    """`receiver` names the incarnation it is meant for: another one must ignore it."""

    receiver: Sender
    message: CoordinatorMessage
