"""Every record comes back as it was, and nothing that was damaged comes back at all."""

from __future__ import annotations

import json
import math
import string
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distckpt.errors import CorruptJournal
from distckpt.journal import codec
from distckpt.journal.codec import decode_entry, decode_snapshot, encode_entry, encode_snapshot
from distckpt.journal.records import (
    AdoptRecord,
    CommitRecord,
    Entry,
    GenerationRecord,
    PreserveRecord,
    Process,
    QuarantineRecord,
    RetireRecord,
)
from distckpt.journal.state import JournalState, Quarantined
from distckpt.model import Checkpoint, FileRecord

TEXT = st.text(max_size=12)
COUNT = st.integers(0, 1 << 62)
NUMBER = st.floats(allow_nan=False)
FILES = st.lists(st.builds(FileRecord, TEXT, COUNT, TEXT), max_size=3).map(tuple)
CHECKPOINTS = st.builds(
    Checkpoint,
    name=TEXT,
    step=COUNT,
    timestamp=st.floats(0, 1e12),
    generation=COUNT,
    files=FILES,
    manifest_sha256=st.text(string.hexdigits, max_size=64),
    metrics=st.dictionaries(TEXT, NUMBER, max_size=3),
    preserved=st.booleans(),
)
TEXTS = st.lists(TEXT, max_size=3).map(tuple)
GENERATION = st.builds(
    GenerationRecord,
    COUNT,
    TEXT,
    TEXT,
    st.builds(Process, TEXT, COUNT, TEXT, TEXT, TEXT),
    TEXTS,
    st.floats(0, 1e12),
)
RECORDS = st.one_of(
    GENERATION,
    st.builds(CommitRecord, CHECKPOINTS),
    st.builds(AdoptRecord, st.lists(CHECKPOINTS, max_size=3).map(tuple)),
    st.builds(PreserveRecord, TEXTS),
    st.builds(RetireRecord, TEXTS),
    st.builds(QuarantineRecord, TEXT, TEXT),
)
ENTRIES = st.builds(Entry, COUNT, COUNT, TEXT, RECORDS)
STATES = st.builds(
    JournalState,
    COUNT,
    st.none() | GENERATION,
    st.lists(CHECKPOINTS, max_size=2).map(tuple),
    st.lists(CHECKPOINTS, max_size=2).map(tuple),
    st.lists(st.builds(Quarantined, CHECKPOINTS, TEXT), max_size=2).map(tuple),
)
PATH = ".distckpt/journal/0000000000000007.json"


@given(ENTRIES)
def test_an_entry_comes_back_as_it_was(entry: Entry) -> None:
    """A GENERATION record's own generation is the entry's: `apply` sees to that, and one of them is stored."""
    if isinstance(entry.record, GenerationRecord):
        entry = replace(entry, generation=entry.record.generation)
    assert decode_entry(encode_entry(entry), PATH) == entry


@given(STATES)
def test_a_snapshot_comes_back_as_it_was(state: JournalState) -> None:
    assert decode_snapshot(encode_snapshot(state), PATH) == state


@given(STATES)
def test_the_same_state_is_the_same_snapshot_to_the_byte(state: JournalState) -> None:
    assert encode_snapshot(decode_snapshot(encode_snapshot(state), PATH)) == encode_snapshot(state)


def test_metrics_that_json_does_not_know_come_back(checkpoint: Callable[..., Checkpoint]) -> None:
    metrics = {"loss": math.nan, "best": math.inf, "worst": -math.inf, "accuracy": 0.1}
    entry = Entry(7, 1, "n", CommitRecord(checkpoint(1, metrics=metrics)))
    data = encode_entry(entry)
    json.loads(data, parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))
    decoded = decode_entry(data, PATH).record
    assert isinstance(decoded, CommitRecord)
    assert repr(dict(decoded.checkpoint.metrics)) == repr(metrics)


@settings(max_examples=300)
@given(st.data())
def test_a_flipped_bit_anywhere_is_found(data: st.DataObject) -> None:
    whole = bytearray(encode_entry(Entry(7, 1, "n", RetireRecord(("ckpt-1",)))))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(CorruptJournal, match="0000000000000007"):
        decode_entry(bytes(whole), PATH)


def test_a_file_cut_short_or_lengthened_is_found() -> None:
    whole = encode_entry(Entry(7, 1, "n", RetireRecord(("ckpt-1",))))
    for damaged in [whole[:length] for length in range(len(whole))] + [whole + b"\n", whole + whole, b"\0" * 400]:
        with pytest.raises(CorruptJournal, match=r"cut short|checksum"):
            decode_entry(damaged, PATH)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('"text"', "no object"),
        ("[]", "no object"),
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ('{"slot": 1}', "record is missing"),
        ('{"slot": 1, "record": "LATER"}', "LATER"),
        ('{"slot": 1, "record": "RETIRE", "names": "ckpt-1"}', "names is no list"),
        ('{"slot": 1, "record": "RETIRE", "names": [1]}', "names is no list of texts"),
        ('{"slot": 1, "record": "COMMIT", "checkpoint": 3}', "checkpoint is no object"),
        ('{"slot": 1, "record": "COMMIT", "checkpoint": {"name": 3}}', r"checkpoint\.name is no text"),
        ('{"slot": -1, "generation": 1, "nonce": "n", "record": "RETIRE", "names": []}', "slot is no whole number"),
        ('{"slot": true, "generation": 1, "nonce": "n", "record": "RETIRE", "names": []}', "slot is no whole number"),
    ],
)
def test_what_is_well_framed_and_still_no_record_names_the_field(content: str, told: str) -> None:
    framed = codec._framed({}, 1 << 30)
    body = content.encode()
    digest = codec.sha256(body).hexdigest().encode()
    data = framed[: len(codec._HEAD)] + digest + codec._MIDDLE + body + codec._TAIL
    with pytest.raises(CorruptJournal, match=told):
        decode_entry(data, PATH)


def test_what_is_too_large_is_neither_written_nor_read(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Entry(7, 1, "n", QuarantineRecord("ckpt-1", "x" * 1000))
    data = encode_entry(entry)
    monkeypatch.setattr(codec, "RECORD_BYTES_MAX", len(data) - 1)
    with pytest.raises(ValueError, match="too many"):
        encode_entry(entry)
    with pytest.raises(CorruptJournal, match="more than"):
        decode_entry(data, PATH)


def test_what_was_written_before_there_were_preserved_ones_reads_the_same(
    checkpoint: Callable[..., Checkpoint],
) -> None:
    data = encode_entry(Entry(7, 1, "n", CommitRecord(checkpoint(1))))
    assert b"preserved" not in data
    decoded = decode_entry(data, PATH).record
    assert isinstance(decoded, CommitRecord)
    assert decoded.checkpoint.preserved is False


def test_a_record_can_be_read_by_a_person() -> None:
    text = encode_entry(Entry(7, 3, "n", RetireRecord(("ckpt-1",)))).decode()
    assert text.splitlines()[1:7] == [
        ' "slot": 7,',
        ' "generation": 3,',
        ' "nonce": "n",',
        ' "record": "RETIRE",',
        ' "names": [',
        '  "ckpt-1"',
    ]
    assert json.loads(text)["body"]["names"] == ["ckpt-1"]
