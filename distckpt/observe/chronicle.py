"""The chronicle of one generation: folds what passes through the coordinator into a picture, and tells what happens.

Fed on the loops' threads, asked for a picture on any; each feeding costs microseconds. What it remembers is bounded:
the last saves up to PARTS_MAX workers' parts in all, the last restores, troubles and steps.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

from distckpt.model import Cause, Checkpoint
from distckpt.observe.happenings import ChiefFenced, Happening, ReplicasDiffer, SetAside, WishFailed
from distckpt.observe.picture import Picture, TroubleView
from distckpt.observe.records import sentence
from distckpt.observe.rounds import Ending, RestoreFollow, SaveFollow
from distckpt.observe.steps import Steps
from distckpt.observe.wishes import Wishes
from distckpt.observe.workers import Follow
from distckpt.protocol import effects, events, messages
from distckpt.protocol.save_round import SaveRound
from distckpt.runtime.observer import EndedStep, Opening

SAVES_MAX = 100
PARTS_MAX = 4096
RESTORES_MAX = 16
TROUBLES_MAX = 32


class Chronicle:
    """`tell` hears what happens, on the loops' threads, after the chronicle has taken it in."""

    def __init__(self, opening: Opening, tell: Callable[[Happening], None]) -> None:
        self._coordinator = opening.coordinator
        self._opening = opening
        self._tell = tell
        self._lock = threading.Lock()
        self._workers = [Follow(worker) for worker in range(opening.world_size)]
        self._open: SaveFollow | RestoreFollow | None = None
        self._saves: deque[SaveFollow] = deque(maxlen=max(1, min(SAVES_MAX, PARTS_MAX // opening.world_size)))
        self._restores: deque[RestoreFollow] = deque(maxlen=RESTORES_MAX)
        self._troubles: deque[tuple[float, Cause]] = deque(maxlen=TROUBLES_MAX)
        self._steps = Steps()
        self._fenced = False
        self._wishes = Wishes()
        self._checkpoints = {each.name: each for each in opening.checkpoints}

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """The live ones, oldest first."""
        with self._lock:
            return tuple(self._checkpoints.values())

    def coordinator_did(
        self, event: events.CoordinatorEvent, effected: Sequence[effects.CoordinatorEffect], now: float
    ) -> None:
        """Takes in what the coordinator has just done. See `runtime.observer`."""
        with self._lock:
            happened = list(
                chain(
                    self._see_workers(event, effected, now),
                    self._see_round(event, effected, now),
                    self._see_checkpoints(event, effected, now),
                    self._see_fence(effected, now),
                    self._wishes.see(effected),
                )
            )
        for each in happened:
            if isinstance(each, WishFailed):
                self._troubles.append((now, Cause(each.cause, each.message)))
            elif isinstance(each, ReplicasDiffer):
                self._troubles.append((now, Cause("ReplicasDiffer", sentence(each))))
            self._tell(each)

    def steps_ended(self, ended: Sequence[EndedStep]) -> None:
        """Takes in how far the chief's own training has come."""
        with self._lock:
            happened = [self._steps.ended(step, at) for step, at in ended]
        for each in happened:
            if each is not None:
                self._tell(each)

    def picture(self, now: float, wall: float) -> Picture:
        """How the job stands at `now`, by the loops' clock, which is `wall` in seconds since the epoch.

        Without the checkpoints: why they are kept is to be asked elsewhere.
        """
        epoch = wall - now
        with self._lock:
            return Picture(
                source="live",
                directory=self._opening.directory,
                at=wall,
                job=self._opening.job,
                generation=self._opening.generation,
                world_size=self._opening.world_size,
                workers=tuple(worker.view(now) for worker in self._workers),
                saves=tuple(save.view(epoch) for save in self._saves),
                restores=tuple(restore.view(epoch) for restore in self._restores),
                troubles=tuple(TroubleView(epoch + at, cause.kind, cause.message) for at, cause in self._troubles),
                steps=tuple(replace(each, at=epoch + each.at) for each in self._steps.recent),
            )

    # --------------------------------------------------------------------------------------------------------- workers

    def _see_workers(
        self, event: events.CoordinatorEvent, effected: Sequence[effects.CoordinatorEffect], now: float
    ) -> Iterator[Happening]:
        for follow in self._concerned(event, effected):
            yield from follow.see(self._coordinator.members.of(follow.worker), now)
            if isinstance(event, events.Received) and event.envelope.sender.incarnation == follow.incarnation:
                yield from self._hear(follow, event.envelope.message, now)

    def _concerned(
        self, event: events.CoordinatorEvent, effected: Sequence[effects.CoordinatorEffect]
    ) -> Sequence[Follow]:
        """Whom `event` may have changed: with thousands of workers, not all can be looked at after every message."""
        match event:
            case events.Received(envelope):
                return self._workers[envelope.sender.worker : envelope.sender.worker + 1]
            case events.ProbeResult(worker=worker) | events.Disconnected(worker=worker):
                return self._workers[worker : worker + 1]
            case events.Tick() if effected:  # who is found to be lost is told of
                return self._workers
        return ()

    def _hear(self, follow: Follow, message: messages.AgentMessage, now: float) -> Iterator[Happening]:
        follow.heard_at = now
        if not isinstance(message, messages.Heartbeat):
            return
        if isinstance(self._open, SaveFollow):
            self._open.hear(follow.worker, message.activity)
        for held in follow.hear(message.step, message.activity, now):
            of_step = (save for save in reversed(self._saves) if save.step == held.step)
            save = next(of_step, None)
            if save is not None:
                save.held(held.worker, held.seconds)
            yield held

    # ---------------------------------------------------------------------------------------------------------- rounds

    def _see_round(
        self, event: events.CoordinatorEvent, effected: Sequence[effects.CoordinatorEffect], now: float
    ) -> Iterator[Happening]:
        current, followed = self._coordinator.round, self._open
        if followed is not None and (current is None or current.number != followed.number):
            yield self._end(followed, _ending(followed.number, event, effected), now)
        if current is None:
            return
        if self._open is None:
            if isinstance(current, SaveRound):
                save = self._open = SaveFollow(current.number, current.step, current.name, now)
                save.reason = self._wishes.reason_of(current.step)
                self._saves.append(save)
                yield save.opened()
            else:
                self._open = RestoreFollow(current.number, current.selector, now)
                self._restores.append(self._open)
        if isinstance(self._open, SaveFollow) and isinstance(current, SaveRound) and _concerns(event):
            yield from self._open.see(current, now)

    def _end(self, followed: SaveFollow | RestoreFollow, ending: Ending, now: float) -> Happening:
        self._open = None
        if ending.cause is not None:
            self._troubles.append((now, ending.cause))
        return followed.end(ending, now)

    # -------------------------------------------------------------------------------------------------------- the rest

    def _see_checkpoints(
        self, event: events.CoordinatorEvent, effected: Sequence[effects.CoordinatorEffect], now: float
    ) -> Iterator[Happening]:
        if isinstance(event, events.CommitDone):
            for name in (*event.retired, event.checkpoint.name):
                self._checkpoints.pop(name, None)
            for name in event.preserved:
                self._checkpoints[name] = replace(self._checkpoints[name], preserved=True)
            self._checkpoints[event.checkpoint.name] = event.checkpoint
        elif isinstance(event, events.Quarantined):
            self._checkpoints.pop(event.name, None)
        for effect in effected:
            if isinstance(effect, effects.Quarantine):
                self._troubles.append((now, Cause("CorruptCheckpoint", f"{effect.name}: {effect.reason}")))
                yield SetAside(effect.name, effect.reason)

    def _see_fence(self, effected: Sequence[effects.CoordinatorEffect], now: float) -> Iterator[Happening]:
        for effect in effected:
            match effect:
                case effects.Send(messages.CoordinatorEnvelope(_, messages.FencedOff(_, cause))) if not self._fenced:
                    self._fenced = True
                    self._troubles.append((now, cause))
                    yield ChiefFenced(cause.kind, cause.message)


def _concerns(event: events.CoordinatorEvent) -> bool:
    """Whether it may change an open round: heartbeats, which are many, do not."""
    return not (isinstance(event, events.Received) and isinstance(event.envelope.message, messages.Heartbeat))


def _ending(number: int, event: events.CoordinatorEvent, effected: Iterable[effects.CoordinatorEffect]) -> Ending:
    """How round `number` has just ended, from what the coordinator was told and what it says."""
    if isinstance(event, events.CommitDone) and event.round == number:
        return Ending("committed", committed=event.checkpoint)
    for effect in effected:
        match effect:
            case effects.Send(messages.CoordinatorEnvelope(_, messages.RestoreDecided(round=of, name=name))) if (
                of == number
            ):
                return Ending("committed", restored=name)
            case effects.Send(messages.CoordinatorEnvelope(_, messages.Aborted(round=of, cause=cause))) if of == number:
                fatal = isinstance(event, events.Superseded) or (isinstance(event, events.CommitFailed) and event.fatal)
                return Ending("unknown" if fatal else "aborted", cause)
    return Ending("aborted", Cause("SaveAborted", "nobody had come to it"))
