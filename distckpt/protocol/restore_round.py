"""One attempt to restore: gather the requests, choose a candidate, have it verified in parts, decide.

A candidate in which a fault was found is set aside, and the next one is tried: the one before it for "latest", the next
best for "best:METRIC:MODE", none for an explicit step (who names a step wants that one, or to be told).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum

from distckpt.model import Checkpoint
from distckpt.protocol.deadlines import Deadlines
from distckpt.protocol.effects import Quarantine
from distckpt.protocol.gathering import Gathering, GiveUp, Orders
from distckpt.protocol.machine import Machine
from distckpt.protocol.membership import Kind, Member
from distckpt.protocol.messages import RestoreDecided, RestoreRequest, Verified, Verify

LATEST = "latest"


class RestoreState(Enum):
    GATHERING = "gathering"
    VERIFYING = "verifying"
    SETTING_ASIDE = "setting aside"
    DECIDED = "decided"
    ENDED = "ended"


_TABLE = {
    RestoreState.GATHERING: (RestoreState.VERIFYING, RestoreState.DECIDED, RestoreState.ENDED),
    RestoreState.VERIFYING: (RestoreState.SETTING_ASIDE, RestoreState.DECIDED, RestoreState.ENDED),
    RestoreState.SETTING_ASIDE: (RestoreState.VERIFYING, RestoreState.ENDED),
    RestoreState.DECIDED: (RestoreState.ENDED,),
    RestoreState.ENDED: (),
}


def candidates(selector: str, checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
    """What `selector` means, the first choice first. `checkpoints`: oldest first. Raises GiveUp where it cannot be."""
    newest_first = list(reversed(checkpoints))
    if selector == LATEST:
        return newest_first
    if selector.isdecimal():
        chosen = [checkpoint for checkpoint in newest_first if checkpoint.step == int(selector)][:1]
        have = ", ".join(str(checkpoint.step) for checkpoint in checkpoints[-16:]) or "none at all"
        if not chosen:
            raise GiveUp("NoRestorableCheckpoint", f"there is no checkpoint of step {selector} (there are: {have})")
        return chosen
    kind, _, wanted = selector.partition(":")
    metric, _, mode = wanted.rpartition(":")
    if kind != "best" or not metric or mode not in ("min", "max"):
        raise GiveUp("ConfigurationError", f'restore of {selector!r}: give "latest", a step, or "best:METRIC:min|max"')
    measured = [c for c in newest_first if not math.isnan(c.metrics.get(metric, math.nan))]
    if not measured:
        raise GiveUp("NoRestorableCheckpoint", f"no checkpoint has the metric {metric!r}")
    return sorted(measured, key=lambda checkpoint: checkpoint.metrics[metric], reverse=mode == "max")


class RestoreRound:
    kind: Kind = "restore"
    is_committing = False
    handles: tuple[str, ...] = ()
    kept: frozenset[str] = frozenset()

    def __init__(self, number: int, first: RestoreRequest, gathering: Gathering, deadlines: Deadlines) -> None:
        self.number = number
        self.selector = first.selector
        self.gathering = gathering
        self.machine = Machine(f"restore round {number}", _TABLE, RestoreState.GATHERING)
        self.decision: dict[int, RestoreDecided] | None = None
        self._until = gathering.opened_at + deadlines.restore_s
        self._asked: dict[int, str] = {}
        self._left: list[Checkpoint] = []
        self._verified: set[int] = set()
        self._quarantined: list[str] = []
        self._reason = ""

    @property
    def state(self) -> RestoreState:
        return self.machine.state

    @property
    def is_gathering(self) -> bool:
        return self.state is RestoreState.GATHERING

    @property
    def ordinals(self) -> dict[int, int]:
        return self.gathering.ordinals

    @property
    def subjects(self) -> frozenset[str]:
        """What has been asked for; see outcomes.Verdict."""
        return frozenset(f"restore {selector}" for selector in self._asked.values())

    @property
    def deadline(self) -> float | None:
        """When the round is to be looked at. While a checkpoint is being set aside, only the outcome goes on."""
        if self.state is RestoreState.SETTING_ASIDE:
            return None
        return min(self.gathering.until, self._until) if self.is_gathering else self._until

    def end(self, why: str, now: float) -> None:
        self.machine.go(RestoreState.ENDED, why, now)

    # ------------------------------------------------------------------------------------------------------- gathering

    def request(
        self,
        member: Member,
        message: RestoreRequest,
        checkpoints: Sequence[Checkpoint],
        set_aside: Sequence[str],
        now: float,
    ) -> Orders:
        """Takes a request, first or repeated. Raises GiveUp if the workers do not ask for the same.

        `checkpoints` are the live ones, oldest first; `set_aside` the names of those that were found corrupt before:
        where these are all there ever was, nobody may take the job for a new one.
        """
        if member.worker in self._asked:
            return self._again(member.worker)
        self._asked[member.worker] = message.selector
        self.gathering.come(member, message.ordinal)
        if message.selector != self.selector:
            who = ", ".join(f"worker {w} restores {s!r}" for w, s in sorted(self._asked.items()))
            raise GiveUp("StepMismatch", f"workers do not restore the same: {who}", member.worker)
        self.gathering.check_left(now)
        self.gathering.check_lost(now)
        if not self.gathering.all_came:
            return []
        self._left = candidates(self.selector, checkpoints)
        if not self._left and set_aside:
            raise GiveUp("NoRestorableCheckpoint", f"none is left; set aside as corrupt: {', '.join(set_aside)}")
        if not self._left:
            return self._decide(None, "there is no checkpoint, nor ever was", now)
        return self._try_next("all asked", now)

    def _again(self, worker: int) -> Orders:
        verifying = self.state is RestoreState.VERIFYING and worker not in self._verified
        return [self._verify(worker)] if verifying else []

    def _verify(self, worker: int) -> tuple[Member, Verify]:
        candidate, parts = self._left[0], len(self.ordinals)
        part = Verify(
            self.number, self.ordinals[worker], candidate.name, worker, parts, manifest_sha256=candidate.manifest_sha256
        )
        return self.gathering.parties[worker], part

    def _try_next(self, why: str, now: float) -> Orders:
        self.machine.go(RestoreState.VERIFYING, f"{why}; candidate {self._left[0].name}", now)
        self._verified.clear()
        return [self._verify(worker) for worker in self.ordinals]

    def _decide(self, name: str | None, why: str, now: float) -> Orders:
        self.machine.go(RestoreState.DECIDED, why, now)
        aside = tuple(self._quarantined)
        self.decision = {w: RestoreDecided(self.number, ordinal, name, aside) for w, ordinal in self.ordinals.items()}
        return []

    # ------------------------------------------------------------------------------------------------------- verifying

    def verified(self, worker: int, message: Verified, now: float) -> Orders:
        """Takes the outcome of one part."""
        if self.state is not RestoreState.VERIFYING:
            return []
        candidate = self._left[0]
        if message.name != candidate.name:
            return self._again(worker)
        if message.fault is not None:
            self.machine.go(RestoreState.SETTING_ASIDE, f"worker {worker}: {message.fault}", now)
            self._reason = message.fault
            return [Quarantine(self.number, candidate.name, f"{message.fault} (found by worker {worker})")]
        self._verified.add(worker)
        if len(self._verified) < len(self.ordinals):
            return []
        return self._decide(candidate.name, "all verified", now)

    def quarantined(self, name: str, now: float) -> Orders:
        """The faulty candidate is set aside: on to the next. Raises GiveUp if there is none."""
        if self.state is not RestoreState.SETTING_ASIDE or name != self._left[0].name:
            return []
        self._quarantined.append(name)
        del self._left[0]
        if self._left:
            return self._try_next(f"{name} is set aside", now)
        if self.selector.isdecimal():
            raise GiveUp("CorruptCheckpoint", f"{name}: {self._reason}")
        faulty = ", ".join(self._quarantined)
        raise GiveUp(
            "NoRestorableCheckpoint", f"none is left; set aside as corrupt: {faulty}; the last: {self._reason}"
        )

    # ---------------------------------------------------------------------------------------------------------- trouble

    def check_time(self, now: float) -> Orders:
        """Raises GiveUp if a deadline has passed."""
        if self.is_gathering:
            self.gathering.check_time(now)
        if self.state in (RestoreState.GATHERING, RestoreState.VERIFYING) and now >= self._until:
            late = [worker for worker in range(self.gathering.members.world_size) if worker not in self._verified]
            waited = f"not verified after {now - self.gathering.opened_at:.1f} s by"
            raise self.gathering.blame("DeadlineExceeded", late, waited, now)
        return []
