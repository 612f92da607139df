"""The agent's side of a restore: from the training thread's call to its outcome. One is outstanding at a time."""

from __future__ import annotations

from collections.abc import Mapping

from distckpt.model import Cause
from distckpt.protocol.effects import RestoreResolved, VerifyPart
from distckpt.protocol.events import RestoreRequested, VerifyDone, VerifyFailed
from distckpt.protocol.machine import IllegalTransition, Machine
from distckpt.protocol.messages import (
    Aborted,
    AgentMessage,
    Failed,
    RestoreDecided,
    RestoreRequest,
    Verified,
    Verify,
)
from distckpt.protocol.requests import Outbox, Request, Stage

_TABLE: Mapping[Stage, tuple[Stage, ...]] = {
    Stage.ASKED: (Stage.VERIFYING, Stage.DONE, Stage.FAILED),
    Stage.VERIFYING: (Stage.VERIFYING, Stage.VERIFIED, Stage.FAILED),
    Stage.VERIFIED: (Stage.VERIFYING, Stage.DONE, Stage.FAILED),
    Stage.DONE: (),
    Stage.FAILED: (),
}


class RestoreAsked(Request):
    def __init__(self, asked: RestoreRequested, now: float, patience_s: float) -> None:
        what = f"restore of {asked.selector}"
        super().__init__(
            Machine(f"request {asked.ordinal}, {what}", _TABLE, Stage.ASKED), asked.ordinal, what, now, patience_s
        )
        self.message: AgentMessage = RestoreRequest(asked.ordinal, asked.selector)
        self.tried: list[str] = []


class Restoring:
    """`current` is the outstanding restore; `apology` as in Saving."""

    def __init__(self, outbox: Outbox, patience_s: float) -> None:
        self.current: RestoreAsked | None = None
        self.apology: Failed | None = None
        self._outbox = outbox
        self._patience_s = patience_s

    @property
    def message(self) -> AgentMessage | None:
        """What is to be repeated."""
        return self.apology if self.current is None else self.current.message

    def request(self, event: RestoreRequested) -> None:
        if self.current is not None:
            raise IllegalTransition(
                f"restore {event.ordinal} was requested while {self.current.ordinal} is outstanding"
            )
        self.apology = None
        self.current = RestoreAsked(event, self._outbox.now, self._patience_s)

    def refuse(self, event: RestoreRequested, cause: Cause) -> None:
        """Resolves a request that comes after the end."""
        self._outbox.do(RestoreResolved(event.ordinal, cause))

    def verify(self, message: Verify) -> None:
        current = self.current
        if current is None or current.ordinal != message.ordinal or message.name in current.tried:
            return
        current.machine.go(Stage.VERIFYING, f"candidate {message.name}", self._outbox.now)
        current.round = message.round
        current.tried.append(message.name)
        part = VerifyPart(
            message.round, current.ordinal, message.name, message.part, message.parts, message.manifest_sha256
        )
        self._outbox.do(part)

    def verify_done(self, event: VerifyDone) -> None:
        current = self._verifying(event.round)
        if current is None or event.name != current.tried[-1]:
            return
        current.machine.go(Stage.VERIFIED, event.fault or "no fault", self._outbox.now)
        current.message = Verified(event.round, event.name, event.fault)
        self._outbox.tell(current.message)

    def verify_failed(self, event: VerifyFailed) -> None:
        if self._verifying(event.round) is not None:
            self.give_up(event.cause)

    def _verifying(self, number: int) -> RestoreAsked | None:
        current = self.current
        return current if current is not None and (current.round, current.stage) == (number, Stage.VERIFYING) else None

    def decide(self, message: RestoreDecided) -> None:
        if self.current is not None and self.current.ordinal == message.ordinal:
            self._resolve(self.current, message)

    def abort(self, message: Aborted) -> None:
        if self.apology is not None and self.apology.ordinal == message.ordinal:
            self.apology = None
        if self.current is not None and self.current.ordinal == message.ordinal:
            self._resolve(self.current, message.cause)

    def give_up(self, cause: Cause) -> None:
        """Ends the outstanding restore without the coordinator."""
        current = self.current
        if current is None:
            return
        self.apology = Failed(current.round, current.ordinal, cause)
        self._outbox.tell(self.apology)
        self._resolve(current, cause)

    def _resolve(self, current: RestoreAsked, result: RestoreDecided | Cause) -> None:
        if isinstance(result, Cause):
            current.machine.go(Stage.FAILED, result.message, self._outbox.now)
        else:
            current.machine.go(Stage.DONE, f"decided: {result.name}", self._outbox.now)
        self.current = None
        self._outbox.do(RestoreResolved(current.ordinal, result))
