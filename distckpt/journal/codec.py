"""The journal's files: JSON for people, with a checksum for machines.

A file is one object, `{"distckpt": "journal", "format": 1, "sha256": "...", "body": {...}}`. The checksum is of the
body's bytes as they stand in the file, so that nothing has to be written anew to be checked. A slot's body holds its
number (a file that was copied or renamed is noticed), the generation, a nonce and the record; a snapshot's the state.
"""

from __future__ import annotations

import json
import math
from hashlib import sha256
from typing import Any

from distckpt.errors import CorruptJournal
from distckpt.journal.fields import Fields
from distckpt.journal.records import (
    AdoptRecord,
    CommitRecord,
    Entry,
    GenerationRecord,
    PreserveRecord,
    Process,
    QuarantineRecord,
    Record,
    RetireRecord,
)
from distckpt.journal.state import JournalState, Quarantined
from distckpt.model import NO_METRICS, Checkpoint, FileRecord

RECORD_BYTES_MAX = 64 << 20
SNAPSHOT_BYTES_MAX = 512 << 20

_HEAD = b'{"distckpt": "journal", "format": 1, "sha256": "'
_MIDDLE = b'", "body": '
_TAIL = b"}\n"
_BODY = len(_HEAD) + 64 + len(_MIDDLE)


def encode_entry(entry: Entry) -> bytes:
    """Raises ValueError above RECORD_BYTES_MAX."""
    content = _record_to_json(entry.record)
    body = {"slot": entry.slot, "generation": entry.generation, "nonce": entry.nonce, **content}
    return _framed(body, RECORD_BYTES_MAX)


def decode_entry(data: bytes, path: str) -> Entry:
    """Raises CorruptJournal, naming `path`, for anything that `encode_entry` did not write."""
    body = _unframed(data, path, RECORD_BYTES_MAX)
    record = _record_from_json(body, path)
    return Entry(body.integer("slot"), body.integer("generation"), body.text("nonce"), record)


def encode_snapshot(state: JournalState) -> bytes:
    """Raises ValueError above SNAPSHOT_BYTES_MAX."""
    body = {
        "slot": state.slot,
        "begun": state.begun and _generation_to_json(state.begun),
        "live": [checkpoint_to_json(each) for each in state.live],
        "retired": [checkpoint_to_json(each) for each in state.retired],
        "quarantined": [
            {"reason": each.reason, "checkpoint": checkpoint_to_json(each.checkpoint)} for each in state.quarantined
        ],
    }
    return _framed(body, SNAPSHOT_BYTES_MAX)


def decode_snapshot(data: bytes, path: str) -> JournalState:
    """Raises CorruptJournal, naming `path`, for anything that `encode_snapshot` did not write."""
    body = _unframed(data, path, SNAPSHOT_BYTES_MAX)
    return JournalState(
        slot=body.integer("slot"),
        begun=None if body.is_null("begun") else _generation_from_json(body.inner("begun")),
        live=tuple(checkpoint_from_json(each) for each in body.inners("live")),
        retired=tuple(checkpoint_from_json(each) for each in body.inners("retired")),
        quarantined=tuple(
            Quarantined(checkpoint_from_json(each.inner("checkpoint")), each.text("reason"))
            for each in body.inners("quarantined")
        ),
    )


# ------------------------------------------------------------------------------------------------------------ the frame


def _framed(body: dict[str, Any], bytes_max: int) -> bytes:
    text = json.dumps(body, indent=1, allow_nan=False).encode()
    data = _HEAD + sha256(text).hexdigest().encode() + _MIDDLE + text + _TAIL
    if len(data) > bytes_max:
        raise ValueError(f"{len(data)} bytes are too many for a file of the journal (at most {bytes_max})")
    return data


def _unframed(data: bytes, path: str, bytes_max: int) -> Fields:
    if len(data) > bytes_max:
        raise CorruptJournal(path, f"has more than {bytes_max} bytes")
    if not (data.startswith(_HEAD) and data.endswith(_TAIL) and data[_BODY - len(_MIDDLE) : _BODY] == _MIDDLE):
        raise CorruptJournal(path, "is cut short, or is no file of a distckpt journal of format 1")
    text = data[_BODY : -len(_TAIL)]
    if data[len(_HEAD) : len(_HEAD) + 64] != sha256(text).hexdigest().encode():
        raise CorruptJournal(path, "the checksum does not match")
    try:
        return Fields(json.loads(text), path)
    except (ValueError, RecursionError) as error:
        raise CorruptJournal(path, f"is no JSON: {error}") from error


# ---------------------------------------------------------------------------------------------------------- the records


def _record_to_json(record: Record) -> dict[str, Any]:
    match record:
        case GenerationRecord():
            return {"record": "GENERATION", **_generation_to_json(record)}
        case CommitRecord():
            return {"record": "COMMIT", "checkpoint": checkpoint_to_json(record.checkpoint)}
        case AdoptRecord():
            return {"record": "ADOPT", "checkpoints": [checkpoint_to_json(each) for each in record.checkpoints]}
        case PreserveRecord():
            return {"record": "PRESERVE", "names": list(record.names)}
        case RetireRecord():
            return {"record": "RETIRE", "names": list(record.names)}
        case QuarantineRecord():
            return {"record": "QUARANTINE", "name": record.name, "reason": record.reason}


def _record_from_json(body: Fields, path: str) -> Record:
    match body.text("record"):
        case "GENERATION":
            return _generation_from_json(body)
        case "COMMIT":
            return CommitRecord(checkpoint_from_json(body.inner("checkpoint")))
        case "ADOPT":
            return AdoptRecord(tuple(checkpoint_from_json(each) for each in body.inners("checkpoints")))
        case "PRESERVE":
            return PreserveRecord(body.texts("names"))
        case "RETIRE":
            return RetireRecord(body.texts("names"))
        case "QUARANTINE":
            return QuarantineRecord(body.text("name"), body.text("reason"))
        case other:
            raise CorruptJournal(path, f"holds a record {other!r}, which this version does not know")


def _generation_to_json(record: GenerationRecord) -> dict[str, Any]:
    return {
        "generation": record.generation,
        "job": record.job,
        "start": record.nonce,
        "process": process_to_json(record.process),
        "world": list(record.world),
        "timestamp": record.timestamp,
    }


def _generation_from_json(body: Fields) -> GenerationRecord:
    return GenerationRecord(
        generation=body.integer("generation"),
        job=body.text("job"),
        nonce=body.text("start"),
        process=process_from_json(body.inner("process")),
        world=body.texts("world"),
        timestamp=body.number("timestamp"),
    )


def process_to_json(process: Process) -> dict[str, Any]:
    return {
        "host": process.host,
        "pid": process.pid,
        "boot": process.boot,
        "namespace": process.namespace,
        "started": process.started,
    }


def process_from_json(body: Fields) -> Process:
    return Process(
        body.text("host"), body.integer("pid"), body.text("boot"), body.text("namespace"), body.text("started")
    )


def checkpoint_to_json(checkpoint: Checkpoint) -> dict[str, Any]:
    """`preserved` is written where it is true: what was written before there was such a thing reads the same."""
    preserved = {"preserved": True} if checkpoint.preserved else {}
    return {
        "name": checkpoint.name,
        "step": checkpoint.step,
        "timestamp": checkpoint.timestamp,
        "generation": checkpoint.generation,
        "manifest_sha256": checkpoint.manifest_sha256,
        "metrics": {name: _number_to_json(value) for name, value in checkpoint.metrics.items()},
        "files": [
            {"name": file.name, "size_bytes": file.size_bytes, "handle": file.handle} for file in checkpoint.files
        ],
        **preserved,
    }


def _number_to_json(value: float) -> float | str:
    number = float(value)
    return number if math.isfinite(number) else str(number)


def checkpoint_from_json(body: Fields) -> Checkpoint:
    return Checkpoint(
        name=body.text("name"),
        step=body.integer("step"),
        timestamp=body.number("timestamp"),
        generation=body.integer("generation"),
        files=tuple(
            FileRecord(file.text("name"), file.integer("size_bytes"), file.text("handle"))
            for file in body.inners("files")
        ),
        manifest_sha256=body.text("manifest_sha256"),
        metrics=body.numbers("metrics") or NO_METRICS,
        preserved=body.has("preserved") and body.flag("preserved"),
    )
