"""Whether the chief that holds a directory is alive: it beats, and who wants the directory watches.

Beats decide only whether *another* job is let in; what keeps two chiefs apart is the journal's fence. No clocks are
compared: alive is what changes while it is watched, dead what does not for `observe_s`, or a process of this machine
that is no more.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from distckpt.errors import CorruptJournal, DirectoryInUse, ObjectMissing
from distckpt.journal.codec import process_from_json, process_to_json
from distckpt.journal.fields import Fields
from distckpt.journal.process import is_gone, this_process
from distckpt.journal.records import GenerationRecord, Process
from distckpt.storage.interface import Storage

ALIVE = ".distckpt/alive.json"
BEAT_S = 1.0
OBSERVE_S = 5.0
_BEAT_BYTES_MAX = 1 << 16
_LOOKS_PER_BEAT = 4

Verdict = Literal["free", "same job", "left", "gone", "watch"]


@dataclass(frozen=True, slots=True)
class Beat:
    """One sign of life of the chief whose generation has the nonce `nonce`. `timestamp` is for people alone."""

    generation: int
    nonce: str
    process: Process
    counter: int
    timestamp: float
    closed: bool = False


class Pulse:
    """A chief's beats. Call `beat` every BEAT_S, from one thread, and `close` at a normal end."""

    def __init__(self, storage: Storage, begun: GenerationRecord, clock: Callable[[], float] = time.time) -> None:
        self._storage = storage
        self._clock = clock
        self._last = Beat(begun.generation, begun.nonce, begun.process, counter=0, timestamp=0.0)

    def beat(self) -> None:
        """Raises StorageError."""
        self._put(closed=False)

    def close(self) -> None:
        """Says that this chief has left: the directory is free at once. Raises StorageError."""
        self._put(closed=True)

    def _put(self, *, closed: bool) -> None:
        last = self._last
        self._last = replace(last, counter=last.counter + 1, timestamp=self._clock(), closed=closed)
        self._storage.put(ALIVE, encode_beat(self._last))


def claim(
    storage: Storage,
    job: str,
    begun: GenerationRecord | None,
    *,
    here: Process | None = None,
    observe_s: float = OBSERVE_S,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Whether `job` may begin a generation after `begun`: returns the reason, or raises DirectoryInUse.

    Waits up to `observe_s` seconds, only where another job held the directory and did not say that it left.
    """
    first = _beat_of(begun, storage)
    verdict, reason = judge(
        job, begun, first, gone=begun is not None and is_gone(begun.process, here or this_process())
    )
    if verdict != "watch" or begun is None:
        return reason
    step_s = BEAT_S / _LOOKS_PER_BEAT
    for _ in range(max(1, round(observe_s / step_s))):
        sleep(step_s)
        beat = _beat_of(begun, storage)
        if beat is not None and beat.closed:
            return f"{_holder(begun)} left while it was watched"
        if beat is not None and beat != first:
            raise DirectoryInUse(_in_use(begun, beat))
    return f"{_holder(begun)} gave no sign of life for {observe_s:g} s"


def judge(job: str, begun: GenerationRecord | None, beat: Beat | None, *, gone: bool) -> tuple[Verdict, str]:
    """What can be said at once, with the reason. `beat` is the last one of `begun`, the generation that holds.

    `gone`: its process certainly lives no more. "watch": only watching can tell.
    """
    if begun is None:
        return "free", "nobody ever held the directory"
    if begun.job == job:
        return "same job", f"takes over from {_holder(begun)}"
    if beat is not None and beat.closed:
        return "left", f"{_holder(begun)} left"
    if gone:
        return "gone", f"{_holder(begun)} died: there is no such process any more"
    return "watch", f"{_holder(begun)} may be alive"


def encode_beat(beat: Beat) -> bytes:
    content = {
        "generation": beat.generation,
        "start": beat.nonce,
        "process": process_to_json(beat.process),
        "counter": beat.counter,
        "timestamp": beat.timestamp,
        "closed": beat.closed,
    }
    return json.dumps(content, indent=1).encode() + b"\n"


def decode_beat(data: bytes) -> Beat:
    """Raises CorruptJournal."""
    try:
        fields = Fields(json.loads(data), ALIVE)
    except (ValueError, RecursionError) as error:
        raise CorruptJournal(ALIVE, f"is no JSON: {error}") from error
    return Beat(
        generation=fields.integer("generation"),
        nonce=fields.text("start"),
        process=process_from_json(fields.inner("process")),
        counter=fields.integer("counter"),
        timestamp=fields.number("timestamp"),
        closed=fields.flag("closed"),
    )


def read_beat(storage: Storage) -> Beat | None:
    """The last beat of whichever chief; None where there is none that can be read: nothing hangs on one file."""
    try:
        return decode_beat(storage.read_at(ALIVE, 0, _BEAT_BYTES_MAX))
    except (ObjectMissing, CorruptJournal):
        return None


def _beat_of(begun: GenerationRecord | None, storage: Storage) -> Beat | None:
    """The last beat, if it is the holder's: a fenced chief may still beat for a moment, and nobody must believe it."""
    beat = read_beat(storage) if begun is not None else None
    return beat if beat is not None and begun is not None and beat.nonce == begun.nonce else None


def _holder(begun: GenerationRecord) -> str:
    return f"job {begun.job} (generation {begun.generation}, {begun.process})"


def _in_use(begun: GenerationRecord, beat: Beat) -> str:
    return (
        f"{_holder(begun)} holds the directory and is alive: it last wrote {_time_of(beat)} by its clock. Use another "
        f"directory, or end that job first. If this is meant to be the same job, give both the same job id (the "
        f"environment variable DISTCKPT_JOB_ID): it then takes over"
    )


def _time_of(beat: Beat) -> str:
    try:
        return "at " + datetime.fromtimestamp(beat.timestamp, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return "a moment ago"
