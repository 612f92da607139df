"""The agent's side of a save: from the training thread's call to its outcome. One is outstanding at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from distckpt.model import Cause, Shard
from distckpt.protocol.effects import DescribeSpecs, Discard, DropSnapshot, Proceed, Resolve, WriteShare
from distckpt.protocol.events import Captured, SaveFailedLocally, SaveRequested, ShareFailed, ShareWritten
from distckpt.protocol.machine import IllegalTransition, Machine
from distckpt.protocol.messages import (
    Aborted,
    AgentMessage,
    Announce,
    Committed,
    Decided,
    Describe,
    Failed,
    Written,
)
from distckpt.protocol.requests import Outbox, Request, Stage

_TABLE: Mapping[Stage, tuple[Stage, ...]] = {
    Stage.ASKED: (Stage.CAPTURING, Stage.WRITING, Stage.FAILED),
    Stage.CAPTURING: (Stage.WRITING, Stage.FAILED),
    Stage.WRITING: (Stage.WRITTEN, Stage.FAILED),
    Stage.WRITTEN: (Stage.DONE, Stage.FAILED),
    Stage.DONE: (),
    Stage.FAILED: (),
}


class SaveAsked(Request):
    def __init__(self, asked: SaveRequested, now: float, patience_s: float) -> None:
        what = f"save of step {asked.step}"
        super().__init__(
            Machine(f"request {asked.ordinal}, {what}", _TABLE, Stage.ASKED), asked.ordinal, what, now, patience_s
        )
        self.announce = Announce(asked.ordinal, asked.step, asked.name, asked.digest, asked.own_bytes, asked.metrics)
        self.captured = asked.captured
        self.own_bytes: tuple[int, ...] = ()
        self.shard: Shard | None = None


class Saving:
    """`current` is the outstanding save; `apology` tells the coordinator of one that failed here, until it answers."""

    def __init__(self, outbox: Outbox, patience_s: float) -> None:
        self.current: SaveAsked | None = None
        self.apology: Failed | None = None
        self._outbox = outbox
        self._patience_s = patience_s
        self._writing: dict[int, int] = {}

    @property
    def message(self) -> AgentMessage | None:
        """What is to be repeated. While this worker captures and writes it asks on: the round may be over."""
        if self.current is None:
            return self.apology
        shard = self.current.shard
        return self.current.announce if shard is None else Written(self.current.round, shard)

    # ------------------------------------------------------------------------------------------------- from this worker

    def request(self, event: SaveRequested) -> None:
        if self.current is not None:
            raise IllegalTransition(
                f"save {event.ordinal} was requested while save {self.current.ordinal} is outstanding"
            )
        self.apology = None
        self.current = SaveAsked(event, self._outbox.now, self._patience_s)

    def refuse(self, event: SaveRequested, cause: Cause) -> None:
        """Resolves a request that comes after the end."""
        self._outbox.do(Resolve(event.ordinal, cause))
        if event.captured:
            self._outbox.do(DropSnapshot(event.ordinal))

    def capture(self, event: Captured) -> None:
        current = self.current
        if current is None or current.ordinal != event.ordinal:
            self._outbox.do(DropSnapshot(event.ordinal))
            return
        current.captured = True
        self._write(current)

    def fail_locally(self, event: SaveFailedLocally) -> None:
        if self.current is not None and self.current.ordinal == event.ordinal:
            self.give_up(event.cause)
        elif self.current is None:
            self._apologise(Failed(0, event.ordinal, event.cause))

    def share_written(self, event: ShareWritten) -> None:
        ordinal = self._writing.pop(event.round)
        current = self.current
        if current is None or current.round != event.round:
            self._discard(event)
            self._outbox.do(DropSnapshot(ordinal))
            return
        current.machine.go(Stage.WRITTEN, "the share is written", self._outbox.now)
        current.shard = event.shard
        self._outbox.tell(Written(event.round, event.shard))

    def share_failed(self, event: ShareFailed) -> None:
        ordinal = self._writing.pop(event.round)
        if self.current is not None and self.current.round == event.round:
            self.give_up(event.cause)
        else:
            self._outbox.do(DropSnapshot(ordinal))

    def _discard(self, event: ShareWritten) -> None:
        if event.shard.handle:
            self._outbox.do(Discard(event.round, (event.shard.handle,)))

    # --------------------------------------------------------------------------------------------- from the coordinator

    def decide(self, message: Decided) -> None:
        current = self._asked(message.ordinal)
        if current is None:
            return
        current.round = message.round
        current.own_bytes = message.own_bytes
        if current.captured:
            self._write(current)
            return
        current.machine.go(Stage.CAPTURING, "decided", self._outbox.now)
        self._outbox.do(Proceed(current.ordinal))

    def _write(self, current: SaveAsked) -> None:
        current.machine.go(Stage.WRITING, "decided and captured", self._outbox.now)
        self._writing[current.round] = current.ordinal
        self._outbox.do(WriteShare(current.round, current.ordinal, current.announce.step, current.own_bytes))

    def describe(self, message: Describe) -> None:
        if self._asked(message.ordinal) is not None:
            self._outbox.do(DescribeSpecs(message.round, message.ordinal))

    def _asked(self, ordinal: int) -> SaveAsked | None:
        """The outstanding save, if it is this one and nothing is decided yet."""
        current = self.current
        return current if current is not None and current.ordinal == ordinal and current.stage is Stage.ASKED else None

    def commit(self, message: Committed) -> None:
        if self.current is not None and self.current.ordinal == message.ordinal:
            self._resolve(self.current, message)

    def abort(self, message: Aborted) -> None:
        if self.apology is not None and self.apology.ordinal == message.ordinal:
            self.apology = None
        if self.current is not None and self.current.ordinal == message.ordinal:
            self._resolve(self.current, message.cause)

    # -------------------------------------------------------------------------------------------------------- the end

    def give_up(self, cause: Cause) -> None:
        """Ends the outstanding save without the coordinator. Once the share is handed in, only "unknown" is true."""
        current = self.current
        if current is None:
            return
        if current.stage is Stage.WRITTEN:
            told = f"{cause.message}; its share was handed in, so it may be committed or not: look before you act"
            cause = replace(cause, kind="OutcomeUnknown", message=told)
        else:
            self._apologise(Failed(current.round, current.ordinal, cause))
        self._resolve(current, cause)

    def _apologise(self, apology: Failed) -> None:
        self.apology = apology
        self._outbox.tell(apology)

    def _resolve(self, current: SaveAsked, result: Committed | Cause) -> None:
        if isinstance(result, Committed):
            current.machine.go(Stage.DONE, "committed", self._outbox.now)
        else:
            current.machine.go(Stage.FAILED, result.message, self._outbox.now)
        self.current = None
        self._outbox.do(Resolve(current.ordinal, result))
        if current.captured and current.round not in self._writing:
            self._outbox.do(DropSnapshot(current.ordinal))
