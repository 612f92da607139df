"""What the coordinator and the agents want done. Frozen values; `handle` returns them, the runtime carries them out.

They are to be carried out in their order, and none may be left out. Those with an *outcome* are reported back with the
event named, exactly once, whenever it is known; the others are not reported. No effect may block the thread that calls
`handle` (files are written, verified and committed elsewhere).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from distckpt.model import NO_METRICS, Cause, Shard, Split
from distckpt.protocol.messages import AgentEnvelope, Agreed, Committed, CoordinatorEnvelope, RestoreDecided, WishOver

# ------------------------------------------------------------------------------------------------------------ from both


@dataclass(frozen=True, slots=True)
class Discard:
    """Remove these staged files of the aborted round `round`; it does not matter if they are gone."""

    round: int
    handles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Log:
    """Something that a person may want to read."""

    level: Literal["info", "warning", "error"]
    text: str


# ------------------------------------------------------------------------------------------------ from the coordinator


@dataclass(frozen=True, slots=True)
class Send:
    """Send this to the agent it names. It may be lost: the agent asks again."""

    envelope: CoordinatorEnvelope


@dataclass(frozen=True, slots=True)
class CheckProbe:
    """Read `key` and compare it with `incarnation`. Outcome: ProbeResult."""

    worker: int
    incarnation: str
    key: str


@dataclass(frozen=True, slots=True)
class Commit:
    """Check the shards' sizes, write index and manifest, append COMMIT, publish, apply retention.

    `shards` hold every tensor once; a worker may have several, or none. `missing` are the workers whose own state (what
    is not the same on all) is not in them. `digest` is of the specs of the replicated tensors, all of which must be
    there. Outcome: CommitDone or CommitFailed; nothing else ends the round.
    """

    round: int
    step: int
    name: str
    shards: tuple[Shard, ...]
    metrics: Mapping[str, float] = field(default_factory=lambda: NO_METRICS, hash=False)
    missing: tuple[int, ...] = ()
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Set the corrupt checkpoint `name` aside. Outcome: Quarantined, even where it could not be done."""

    round: int
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class WishAnswered:
    """A tool's wish is over. Said once of each."""

    answer: WishOver


CoordinatorEffect = Send | CheckProbe | Commit | Discard | Quarantine | WishAnswered | Log

# -------------------------------------------------------------------------------------------------------- from an agent


@dataclass(frozen=True, slots=True)
class Tell:
    """Send this to the coordinator. It may be lost: the agent repeats it."""

    envelope: AgentEnvelope


@dataclass(frozen=True, slots=True)
class Proceed:
    """All workers are at this save: the training thread may capture. Outcome: Captured or SaveFailedLocally."""

    ordinal: int


@dataclass(frozen=True, slots=True)
class DescribeSpecs:
    """Give the specs of save `ordinal`. Outcome: SpecsGiven."""

    round: int
    ordinal: int


@dataclass(frozen=True, slots=True)
class WriteShare:
    """Write share number `share` of `plan(specs, own_bytes, splits, weights)` from the snapshot; with a share of the
    first numbers, one for each worker, goes what only this worker has. Outcome: ShareWritten or ShareFailed.
    """

    round: int
    ordinal: int
    step: int
    share: int
    own_bytes: tuple[int, ...]
    splits: tuple[Split, ...] = ()
    weights: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class LookAtJournal:
    """See who holds the directory, and whether checkpoint `name` was committed, by this generation or a later one.
    Outcome: JournalSeen.
    """

    ordinal: int
    name: str


@dataclass(frozen=True, slots=True)
class TakeOver:
    """Begin the next generation, unless another has begun; write the whole snapshot of save `ordinal`, and commit it.
    `missing`: the workers whose own state (what is not the same on all) is not in it. Outcome: TakeOverEnded.
    """

    ordinal: int
    round: int
    missing: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DropSnapshot:
    """The snapshot of save `ordinal` is not needed any more. Said once of each that was captured, after each WriteShare
    of it has its outcome.
    """

    ordinal: int


@dataclass(frozen=True, slots=True)
class SaveKept:
    """Request a save, by SaveRequested with `salvage`, of the snapshot that was kept of the end of `step`. Where the
    training thread requests one at the same moment, that one comes alone, and the snapshot is released.
    """

    step: int


@dataclass(frozen=True, slots=True)
class ReleaseKept:
    """The snapshot that was kept of the end of `step` is not needed any more."""

    step: int


@dataclass(frozen=True, slots=True)
class Parted:
    """This worker may stop: nobody needs what it keeps, or it has waited for that long enough."""


@dataclass(frozen=True, slots=True)
class Resolve:
    """Save `ordinal` is over. Said once of each. A Cause is for `errors.error_from`."""

    ordinal: int
    result: Committed | Cause


@dataclass(frozen=True, slots=True)
class VerifyPart:
    """Compare the checksums of part `part` of `parts` of checkpoint `name`, from its manifest's on. Outcome: VerifyDone
    or VerifyFailed.
    """

    round: int
    ordinal: int
    name: str
    part: int
    parts: int
    manifest_sha256: str = ""


@dataclass(frozen=True, slots=True)
class RestoreResolved:
    """Restore `ordinal` is decided. Said once of each. A Cause is for `errors.error_from`."""

    ordinal: int
    result: RestoreDecided | Cause


@dataclass(frozen=True, slots=True)
class SetCeiling:
    """Hold the training thread at its next end of a step, and no more at an earlier ceiling, until LiftCeiling or
    Foresee. Outcome: CeilingSet.
    """

    proposal: int


@dataclass(frozen=True, slots=True)
class LiftCeiling:
    """The training thread is held no more, and does not save on account of this proposal."""

    proposal: int


@dataclass(frozen=True, slots=True)
class Foresee:
    """The training thread is held no more. It saves at its first end of a step that is `agreed.step` or later."""

    agreed: Agreed


@dataclass(frozen=True, slots=True)
class WishResolved:
    """This worker's wish is over. Said once of each."""

    answer: WishOver


@dataclass(frozen=True, slots=True)
class Stopped:
    """This agent has ended for good (`cause` None: it was asked to). Every later request is resolved with the cause."""

    cause: Cause | None


AgentEffect = (
    Tell
    | Proceed
    | DescribeSpecs
    | WriteShare
    | LookAtJournal
    | TakeOver
    | DropSnapshot
    | SaveKept
    | ReleaseKept
    | Parted
    | Discard
    | Resolve
    | VerifyPart
    | RestoreResolved
    | SetCeiling
    | LiftCeiling
    | Foresee
    | WishResolved
    | Stopped
    | Log
)
