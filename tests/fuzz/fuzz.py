"""Feeds every parser of what distckpt did not just write with what atheris makes of a sound file. `make fuzz`.

    python tests/fuzz/fuzz.py [--seconds N] [--keep DIR] [TARGET ...]

Each target has a process of its own, for N seconds (60). An input fails that raises anything but an error of
distckpt's, or takes more than 10 s or half a gibibyte: it is kept in DIR, what it raised is shown, and the exit code
is 1.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import atheris

# It tells of each module on stderr.
with contextlib.redirect_stderr(io.StringIO()), atheris.instrument_imports(include=["distckpt"]):
    from distckpt.bundle.difference import differences
    from distckpt.bundle.index import decode_index, encode_index
    from distckpt.bundle.loader import Loader
    from distckpt.bundle.reader import BundleReader
    from distckpt.bundle.statefile import CheckpointState, format_state, parse_state
    from distckpt.bundle.table import encode_table
    from distckpt.bundle.table_reader import decode_table
    from distckpt.bundle.verify import verify
    from distckpt.commit.manifest import decode_manifest, encode_manifest
    from distckpt.errors import DistckptError
    from distckpt.journal import codec
    from distckpt.journal.leases import Lease, decode_lease, encode_lease
    from distckpt.journal.liveness import Beat, decode_beat, encode_beat
    from distckpt.journal.process import this_process
    from distckpt.journal.records import CommitRecord, Entry, GenerationRecord
    from distckpt.journal.state import JournalState
    from distckpt.model import Checkpoint, Extent, FileRecord, Manifest
    from distckpt.model import Entry as Tensor
    from distckpt.observe.picture import Picture
    from distckpt.observe.picture import decode as decode_picture
    from distckpt.observe.picture import encode as encode_picture
    from distckpt.protocol import messages
    from distckpt.rpc import convert, rendezvous
    from distckpt.rpc.checks import MalformedMessage
    from distckpt.rpc.v1 import coordination_pb2 as pb
    from distckpt.storage.memory import MemoryStorage

from google.protobuf.message import DecodeError

FLOAT, STRING = 1, 7
RSS_MIB, INPUT_S = 512, 10
SENDER = messages.Sender("job", 7, 1, "incarnation")
CHECKPOINT = Checkpoint("ckpt-1", 1, 5.0, 7, (FileRecord("ckpt-1.index", 4, "7/x"),), "00", {"loss": 1.0})
BEGUN = GenerationRecord(7, "job", "nonce", this_process(), ("host:1",), 5.0)
MANIFEST = Manifest("ckpt-1", 1, 7, "job", 5.0, (), (), CHECKPOINT.files[0], "00", 1, 4, {"loss": 1.0}, (1,))
PART = (Extent(0, 2), Extent(0, 3))
INDEX = encode_index([[Tensor("a", FLOAT, (4, 3), 0, 24, 1, PART), Tensor("text", STRING, (2,), 36, 9, 3)]])
MEETING = b'{"format": 1, "address": "host:1", "job": "job", "generation": 7, "authority": "", "workers": []}'
PICTURE = encode_picture(Picture("journal", "/job", 5.0))


def index(data: bytes) -> None:
    storage = MemoryStorage()
    storage.put("c.index", data)
    storage.put("c.data-00000-of-00001", bytes(512))
    with contextlib.suppress(DistckptError):
        decode_index(data, "c.index")
    verify(storage, "c", threads=1)
    with contextlib.suppress(DistckptError):
        reader = BundleReader(storage, "c")
        for name in reader.tensors:
            with contextlib.suppress(DistckptError):
                reader.read(name)
        list(differences(reader, reader))
    Loader(storage, "c", threads=1).verify(0, 1)


def entry(data: bytes) -> None:
    """Of a table whose checksums are right."""
    index(encode_table(sorted({**dict(decode_table(INDEX, "i")), b"a": data}.items())))


def framed(parse: Callable[[bytes, str], object]) -> Callable[[bytes], object]:
    """The JSON of a file of the journal, with a checksum that is right."""

    def parsed(text: bytes) -> object:
        digest = sha256(text).hexdigest().encode()
        return parse(codec._HEAD + digest + codec._MIDDLE + text + codec._TAIL, "journal")

    return parsed


def unframed(data: bytes) -> bytes:
    return data[codec._BODY : -len(codec._TAIL)]


def of_wire(kind: Any, parse: Callable[[Any], object]) -> Callable[[bytes], object]:
    def parsed(data: bytes) -> object:
        with contextlib.suppress(DecodeError, MalformedMessage):
            return parse(kind.FromString(data))
        return None

    return parsed


@dataclass(frozen=True, slots=True)
class Target:
    parse: Callable[[bytes], object]
    seed: bytes


def _agent(message: messages.AgentMessage) -> bytes:
    return convert.agent_to_proto(messages.AgentEnvelope(SENDER, message)).SerializeToString()


TARGETS = {
    "index": Target(index, INDEX),
    "entry": Target(entry, dict(decode_table(INDEX, "i"))[b"a"]),
    "record": Target(
        framed(codec.decode_entry), unframed(codec.encode_entry(Entry(1, 7, "nonce", CommitRecord(CHECKPOINT))))
    ),
    "snapshot": Target(
        framed(codec.decode_snapshot), unframed(codec.encode_snapshot(JournalState(3, BEGUN, (CHECKPOINT,))))
    ),
    "manifest": Target(lambda data: decode_manifest(data, "manifest"), encode_manifest(MANIFEST)),
    "statefile": Target(parse_state, format_state(CheckpointState("ckpt-1", ("ckpt-1",), (5.0,), 4.0))),
    "rendezvous": Target(lambda data: rendezvous._decode("rendezvous", data), MEETING),
    "lease": Target(lambda data: decode_lease(data, "lease"), encode_lease(Lease(this_process(), 1, 5.0, ("ckpt-1",)))),
    "beat": Target(decode_beat, encode_beat(Beat(7, "nonce", this_process(), 1, 5.0))),
    "picture": Target(lambda data: decode_picture(data, "picture"), PICTURE),
    "agent": Target(
        of_wire(pb.AgentEnvelope, convert.agent_from_proto),
        _agent(messages.Announce(1, 5, "ckpt-5", "digest", 0, {"loss": 0.5})),
    ),
    "coordinator": Target(
        of_wire(pb.CoordinatorEnvelope, convert.coordinator_from_proto),
        convert.CoordinatorWire().encode(
            messages.CoordinatorEnvelope(SENDER, messages.Committed(1, 1, CHECKPOINT, ("ckpt-0",)))
        ),
    ),
}


def fuzz(name: str, seconds: int, keep: Path) -> None:
    """Of one target, for so long; ends this process, with another code than 0 if an input failed."""
    target = TARGETS[name]

    def survives(data: bytes) -> None:
        with contextlib.suppress(DistckptError):
            target.parse(data)

    with tempfile.TemporaryDirectory() as corpus:
        (Path(corpus) / "sound").write_bytes(target.seed)
        target.parse(target.seed)  # else the mutations would begin from what is refused
        limits = [f"-max_total_time={seconds}", f"-rss_limit_mb={RSS_MIB}", f"-timeout={INPUT_S}", "-max_len=4096"]
        atheris.Setup([name, corpus, *limits, f"-artifact_prefix={keep}/{name}-", "-verbosity=0"], survives)
        atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"))
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    told = parser.parse_args()
    told.keep.mkdir(parents=True, exist_ok=True)
    if told.alone:
        fuzz(told.targets[0], told.seconds, told.keep)
    options = ("--alone", "--seconds", str(told.seconds), "--keep", str(told.keep))
    codes = {}
    for name in told.targets or TARGETS:
        done = subprocess.run(
            [sys.executable, __file__, name, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        codes[name] = done.returncode
        print(f"{name}: {'ok' if done.returncode == 0 else done.stdout[-4000:]}", flush=True)  # noqa: T201 - a report
    return int(any(codes.values()))


if __name__ == "__main__":
    sys.exit(main())
