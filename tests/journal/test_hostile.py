"""The journal's files, leases and beats may hold anything, with checksums that are right: it is read or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distckpt.errors import CorruptJournal, DistckptError
from distckpt.journal import codec
from distckpt.journal.following import Follower
from distckpt.journal.leases import LEASES, Lease, LeaseWatch, decode_lease, encode_lease
from distckpt.journal.liveness import ALIVE, Beat, claim, decode_beat, encode_beat, read_beat
from distckpt.journal.names import slot_key, snapshot_key
from distckpt.journal.process import this_process
from distckpt.journal.reading import load
from distckpt.journal.records import CommitRecord, Entry, GenerationRecord, Process, QuarantineRecord, RetireRecord
from distckpt.journal.state import JournalState
from distckpt.model import Checkpoint, FileRecord
from distckpt.storage.memory import MemoryStorage

Forged = Callable[[Any], st.SearchStrategy[Any]]
PROCESS = Process("host", 7, "boot", "pid:[1]", "55")
BEGUN = GenerationRecord(1, "job", "nonce", PROCESS, ("a:1", "b:1"), 5.0)
CHECKPOINT = Checkpoint("ckpt-1", 1, 6.0, 1, (FileRecord("ckpt-1.index", 9, "1/x"),), "00", {"loss": 0.5})
RECORDS = (
    BEGUN,
    CommitRecord(CHECKPOINT),
    QuarantineRecord("ckpt-1", "why"),
    RetireRecord(("ckpt-1",)),
)
bounded = settings(max_examples=150, deadline=None)


def framed(text: bytes) -> bytes:
    return codec._HEAD + sha256(text).hexdigest().encode() + codec._MIDDLE + text + codec._TAIL


def body_of(data: bytes) -> Any:
    return json.loads(data)["body"]


def is_same(one: JournalState, other: JournalState) -> bool:
    """By what is written of them: a metric that is no number is not equal to itself."""
    return codec.encode_snapshot(one) == codec.encode_snapshot(other)


@bounded
@given(data=st.data())
def test_a_journal_with_forged_records_is_read_or_refused(forged: Forged, data: st.DataObject) -> None:
    storage = MemoryStorage()
    target = data.draw(st.integers(0, len(RECORDS) - 1))
    for number, record in enumerate(RECORDS[: data.draw(st.integers(target + 1, len(RECORDS)))]):
        entry = codec.encode_entry(Entry(number + 1, 1, "n", record))
        if number == target:
            entry = framed(json.dumps(data.draw(forged(body_of(entry)))).encode())
        storage.put(slot_key(number + 1), entry)
    try:
        state = load(storage).state
    except CorruptJournal:
        return
    assert is_same(codec.decode_snapshot(codec.encode_snapshot(state), "s"), state)
    assert is_same(Follower(storage).look(), state)


@bounded
@given(data=st.data())
def test_a_forged_snapshot_is_read_or_refused(forged: Forged, data: st.DataObject) -> None:
    storage = MemoryStorage()
    sound = codec.encode_snapshot(JournalState(9, BEGUN, (CHECKPOINT,), (CHECKPOINT,), ()))
    storage.put(snapshot_key(9), framed(json.dumps(data.draw(forged(body_of(sound)))).encode()))
    try:
        state = load(storage).state
    except CorruptJournal:
        return
    assert is_same(codec.decode_snapshot(codec.encode_snapshot(state), "s"), state)


@bounded
@given(data=st.data())
def test_a_forged_lease_holds_something_or_nothing(forged: Forged, data: st.DataObject) -> None:
    sound = json.loads(encode_lease(Lease(this_process(), 3, 5.0, ("ckpt-1",), ("1/x",))))
    storage = MemoryStorage()
    storage.put(f"{LEASES}/a", json.dumps(data.draw(forged(sound))).encode())
    assert LeaseWatch(storage).held([CHECKPOINT]) <= {"ckpt-1"}


@bounded
@given(data=st.data())
def test_a_forged_beat_is_one_or_none(forged: Forged, data: st.DataObject) -> None:
    sound = json.loads(encode_beat(Beat(1, "nonce", this_process(), 3, 5.0)))
    storage = MemoryStorage()
    storage.put(ALIVE, json.dumps(data.draw(forged(sound))).encode())
    read_beat(storage)
    try:
        assert claim(storage, "other", BEGUN, observe_s=0.25, sleep=lambda _: None)
    except DistckptError:
        pytest.fail("a beat that does not change says nothing")


@pytest.mark.parametrize("decode", [lambda data: decode_lease(data, ALIVE), decode_beat])
@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b'{"a":' * 100_000, b"9" * 10_000, b"\xff", b"null"])
def test_what_is_no_lease_and_no_beat_is_refused_by_name(decode: Callable[[bytes], object], content: bytes) -> None:
    with pytest.raises(CorruptJournal, match="alive"):
        decode(content)


@pytest.mark.parametrize("number", ["1" + "0" * 400, "1e999", "NaN", "-Infinity"])
def test_a_time_that_is_none_is_refused(number: str) -> None:
    sound = encode_beat(Beat(1, "nonce", PROCESS, 3, 123.5))
    with pytest.raises(CorruptJournal, match="timestamp"):
        decode_beat(sound.replace(b"123.5", number.encode()))


def test_a_number_that_no_message_could_carry_is_refused() -> None:
    sound = encode_beat(Beat(1, "nonce", PROCESS, 4711, 1.0))
    assert decode_beat(sound.replace(b"4711", str(2**63 - 1).encode())).counter == 2**63 - 1
    with pytest.raises(CorruptJournal, match="counter is no whole number"):
        decode_beat(sound.replace(b"4711", str(2**63).encode()))
