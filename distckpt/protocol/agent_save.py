"""The agent's side of a save: from the training thread's call to its outcome. One is outstanding at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from distckpt.model import CHIEF, Cause
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
    NotWritten,
    Written,
)
from distckpt.protocol.plan import writers_of
from distckpt.protocol.requests import Outbox, Request, Stage

_TABLE: Mapping[Stage, tuple[Stage, ...]] = {
    Stage.ASKED: (Stage.CAPTURING, Stage.WRITING, Stage.DONE, Stage.FAILED),
    Stage.CAPTURING: (Stage.WRITING, Stage.DONE, Stage.FAILED),
    Stage.WRITING: (Stage.WRITTEN, Stage.DONE, Stage.FAILED),
    Stage.WRITTEN: (Stage.DONE, Stage.FAILED),
    Stage.DONE: (),
    Stage.FAILED: (),
}


class SaveAsked(Request):
    def __init__(self, asked: SaveRequested, now: float, patience_s: float) -> None:
        what = f"{'salvage' if asked.salvage else 'save'} of step {asked.step}"
        super().__init__(
            Machine(f"request {asked.ordinal}, {what}", _TABLE, Stage.ASKED), asked.ordinal, what, now, patience_s
        )
        self.announce = Announce(
            asked.ordinal,
            asked.step,
            asked.name,
            asked.digest,
            asked.own_bytes,
            asked.metrics,
            asked.captured,
            asked.salvage,
        )
        self.captured = asked.captured
        self.decided: Decided | None = None
        self.orphaned = False
        self.begun: set[int] = set()
        self.ended: dict[int, Written | NotWritten] = {}

    def missing_without(self, me: int, world_size: int) -> tuple[int, ...]:
        """The workers that have, or may have, what only they can write, if worker `me` commits alone."""
        own_bytes = (1,) * world_size if self.decided is None else self.decided.own_bytes
        others = (worker for worker in range(world_size) if worker != me)
        return tuple(worker for worker in others if worker == CHIEF or own_bytes[worker])


class Saving:
    """`current` is the outstanding save; `apology` tells the coordinator of one that failed here, until it answers.

    `_writing`: by round, the number of the request, and of the shares that are being written for it.
    """

    def __init__(self, outbox: Outbox, patience_s: float) -> None:
        self.current: SaveAsked | None = None
        self.apology: Failed | None = None
        self._outbox = outbox
        self._patience_s = patience_s
        self._writing: dict[int, tuple[int, set[int]]] = {}

    @property
    def messages(self) -> tuple[AgentMessage, ...]:
        """What is to be repeated. While this worker captures and writes it asks on: the round may be over."""
        if self.current is None:
            return () if self.apology is None else (self.apology,)
        return tuple(self.current.ended.values()) or (self.current.announce,)

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
        written = Written(event.round, event.share, event.shard, event.check)
        if not self._end_writing(event.round, event.share, written):
            if event.shard.handles:
                self._outbox.do(Discard(event.round, event.shard.handles))
        elif self.current is not None and self.current.stage is Stage.WRITING:
            self.current.machine.go(Stage.WRITTEN, f"share {event.share} is written", self._outbox.now)

    def share_failed(self, event: ShareFailed) -> None:
        self._end_writing(event.round, event.share, NotWritten(event.round, event.share, event.cause))

    def _end_writing(self, number: int, share: int, message: Written | NotWritten) -> bool:
        """Reports what became of a share; False if its save is over, and nobody asks."""
        ordinal, writing = self._writing[number]
        writing.discard(share)
        if not writing:
            del self._writing[number]
        current = self.current
        if current is not None and current.round == number:
            current.ended[share] = message
            self._outbox.tell(message)
            return True
        if not writing:
            self._outbox.do(DropSnapshot(ordinal))
        return False

    # --------------------------------------------------------------------------------------------- from the coordinator

    def decide(self, message: Decided) -> None:
        """The decision, or (with more splits than before) more that this worker is to write."""
        current = self.current
        if current is None or current.ordinal != message.ordinal:
            return
        if current.decided is not None and len(message.splits) <= len(current.decided.splits):
            return
        current.round = message.round
        current.decided = message
        if current.captured:
            self._write(current)
        elif current.stage is Stage.ASKED:
            current.machine.go(Stage.CAPTURING, "decided", self._outbox.now)
            self._outbox.do(Proceed(current.ordinal))

    def _write(self, current: SaveAsked) -> None:
        """Begins what is this worker's to write, except what others were given meanwhile."""
        decided = current.decided
        assert decided is not None, "nothing is written before the decision"
        if current.stage in (Stage.ASKED, Stage.CAPTURING):
            current.machine.go(Stage.WRITING, "decided and captured", self._outbox.now)
        given_up = {split.share for split in decided.splits}
        for share, writer in enumerate(writers_of(len(decided.own_bytes), decided.splits)):
            if writer == self._outbox.me.worker and share not in given_up and share not in current.begun:
                current.begun.add(share)
                self._writing.setdefault(current.round, (current.ordinal, set()))[1].add(share)
                self._outbox.do(
                    WriteShare(
                        current.round,
                        current.ordinal,
                        decided.step,
                        share,
                        decided.own_bytes,
                        decided.splits,
                        decided.weights,
                    )
                )

    def describe(self, message: Describe) -> None:
        current = self.current
        if current is not None and current.ordinal == message.ordinal and current.stage is Stage.ASKED:
            self._outbox.do(DescribeSpecs(message.round, message.ordinal))

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
        """Ends the outstanding save without the coordinator. Once a share is handed in only "unknown" is true, and
        before that nothing that says that it was not committed: the others can do it without this worker.
        """
        current = self.current
        if current is None:
            return
        unknown = current.stage is Stage.WRITTEN or current.orphaned
        if not unknown and not current.announce.salvage:  # the others' next save does not depend on it
            self._apologise(Failed(current.round, current.ordinal, cause))
        if unknown or cause.kind == "DeadlineExceeded":
            told = f"{cause.message}; the others may have committed it or not: look before you act"
            cause = replace(cause, kind="OutcomeUnknown", message=told)
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
