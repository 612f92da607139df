"""Why retention leaves each checkpoint alone: the reasons of `protocol.retention`, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import isfinite

from distckpt.errors import CorruptJournal, StorageError
from distckpt.journal.leases import LEASE_BYTES_MAX, LEASES, Lease, decode_lease
from distckpt.model import Checkpoint
from distckpt.observe.picture import CheckpointView
from distckpt.protocol.retention import AnyOf, KeepBest, KeepChosen, KeepEvery, KeepLatest, Policy, Sparing, policy_from
from distckpt.storage.interface import Storage


def leases_in(storage: Storage) -> tuple[Lease, ...]:
    """The leases that stand in the directory now; whether their holders live is not asked."""
    return tuple(lease for key in storage.keys(LEASES) if (lease := _lease(storage, key)) is not None)


def _lease(storage: Storage, key: str) -> Lease | None:
    try:
        return decode_lease(storage.read_at(key, 0, LEASE_BYTES_MAX), key)
    except (StorageError, CorruptJournal):  # just over, or not a lease: nobody holds anything by it
        return None


def kept_checkpoints(
    checkpoints: Sequence[Checkpoint], policy: Policy | None, leases: Sequence[Lease]
) -> tuple[CheckpointView, ...]:
    """The live checkpoints, oldest first, each with its reasons. `policy` is None where it is not known."""
    active = [each for each in checkpoints if not each.preserved]
    reasons: dict[str, list[str]] = {each.name: [] for each in checkpoints}
    for words, names in _told(policy, active):
        for name in names:
            reasons[name].append(words)
    functions = " or ".join(_functions(policy))
    for each in active:
        if functions and not reasons[each.name]:
            reasons[each.name].append(f"left by {functions}")
    return tuple(_view(each, reasons[each.name], leases, newest=each is checkpoints[-1]) for each in checkpoints)


def _told(policy: Policy | None, active: Sequence[Checkpoint]) -> Iterator[tuple[str, set[str]]]:
    match policy:
        case KeepLatest(n=None):
            yield "all are kept", policy.kept(active)
        case KeepLatest(n=n):
            yield "the last" if n == 1 else f"one of the last {n}", policy.kept(active)
        case KeepBest(metric, mode, n):
            which = "the best" if n == 1 else f"one of the {n} best"
            yield f"{which} by {metric} ({mode})", policy.kept(active)
        case KeepEvery(steps, seconds):
            yield f"one every {steps} steps" if steps else f"one every {seconds:g} s", policy.kept(active)
        case AnyOf(policies):
            for each in policies:
                yield from _told(policy_from(each), active)
        case Sparing(inner):
            spared = policy.spared(active)
            yield "of another CheckpointManager", spared
            yield from _told(inner, [each for each in active if each.name not in spared])


def _functions(policy: Policy | None) -> Iterator[str]:
    """The functions of the user's own in a policy. They are not called: that is the committing thread's to do, once."""
    match policy:
        case KeepChosen(choose):
            yield getattr(choose, "__name__", type(choose).__name__)
        case AnyOf(policies):
            for each in policies:
                yield from _functions(policy_from(each))
        case Sparing(inner):
            yield from _functions(inner)


def _view(checkpoint: Checkpoint, told: list[str], leases: Iterable[Lease], *, newest: bool) -> CheckpointView:
    reading = [f"being read by {lease.process}" for lease in leases if lease.holds(checkpoint)]
    preserved = ["preserved for good"] if checkpoint.preserved else []
    return CheckpointView(
        name=checkpoint.name,
        step=checkpoint.step,
        committed_at=checkpoint.timestamp,
        generation=checkpoint.generation,
        bytes=checkpoint.size_bytes,
        metrics={key: value if isfinite(value) else None for key, value in checkpoint.metrics.items()},
        kept=(*(["the newest"] if newest else []), *told, *preserved, *reading),
    )
