from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from distckpt.bundle import writer
from distckpt.bundle.checksum import crc32c
from distckpt.bundle.parallel import for_each
from distckpt.bundle.payload import Payload
from distckpt.bundle.reader import BundleReader
from distckpt.bundle.strings import encode_strings
from distckpt.bundle.writer import write_share
from distckpt.errors import StorageNoSpace
from distckpt.model import Extent
from distckpt.storage.interface import Bytes
from distckpt.storage.posix import PosixStorage

PayloadOf = Callable[..., Payload]


def random_floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_share_is_written_without_gaps_in_its_order(
    storage: PosixStorage, payload_of: PayloadOf, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "RUN_BYTES", 1000)
    sizes = [1, 0, 249, 250, 251, 3000, 2, 2, 10_000, 0]
    payloads = [payload_of(f"t{i}", random_floats(size)) for i, size in enumerate(sizes)]
    file = storage.stage(1, "share")
    entries, size = write_share(payloads, file, threads=threads)
    storage.publish(file.seal(), "data")
    content = storage.read("data")
    assert content == b"".join(payload.data.tobytes() for payload in payloads)
    assert size == len(content)
    position = 0
    for entry, payload in zip(entries, payloads, strict=True):
        assert (entry.name, entry.shape, entry.offset) == (payload.name, payload.shape, position)
        assert entry.crc32c == crc32c(payload.data)
        position += entry.size_bytes
    assert position == size


def test_an_empty_share_is_an_empty_file(storage: PosixStorage) -> None:
    file = storage.stage(1, "share")
    assert write_share([], file, threads=2) == ((), 0)
    storage.publish(file.seal(), "data")
    assert storage.read("data") == b""


def test_a_read_only_buffer_can_be_written(storage: PosixStorage) -> None:
    data = np.frombuffer(bytes(range(8)), np.uint8)
    file = storage.stage(1, "share")
    entries, _ = write_share([Payload("x", 1, (2,), data)], file, threads=1)
    assert entries[0].crc32c == crc32c(bytes(range(8)))


class FullDisk:
    """Takes `room` writes, then fails each one with a number."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.failed = 0
        self._lock = threading.Lock()

    def write_at(self, offset: int, data: Bytes) -> None:
        with self._lock:
            self.room -= 1
            if self.room < 0:
                self.failed += 1
                raise StorageNoSpace(f"failure {self.failed}")


def test_the_first_error_of_a_write_is_raised_and_no_thread_remains(
    payload_of: PayloadOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "RUN_BYTES", 400)
    before = threading.active_count()
    disk = FullDisk(room=5)
    with pytest.raises(StorageNoSpace, match="failure 1"):
        write_share([payload_of("x", random_floats(100_000))], disk, threads=3)  # type: ignore[arg-type] # a part of it
    assert disk.failed <= 3
    assert threading.active_count() == before


def test_nothing_is_begun_after_an_error() -> None:
    done: list[int] = []

    def work(number: int) -> None:
        if number == 3:
            raise RuntimeError("third")
        done.append(number)

    with pytest.raises(RuntimeError, match="third"):
        for_each(work, range(100), threads=1)
    assert done == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"shape": (3,)}, "^x: float32.* takes 12 bytes, not 8"),
        ({"dtype": 20}, "^x: there is no data type 20"),
        ({"part": (Extent(0, 1),)}, "^x: float32.* takes 4 bytes, not 8"),
        ({"data": np.zeros(2, np.float32), "shape": ()}, "^x: "),
        ({"data": np.zeros((2, 4), np.uint8)}, "^x: its bytes are not one contiguous array"),
        ({"data": np.zeros(16, np.uint8)[::2]}, "^x: its bytes are not one contiguous array"),
        ({"crc32c": 1}, "^x: a checksum must come with strings"),
        ({"dtype": 7}, "^x: a checksum must come with strings"),
    ],
)
def test_a_payload_that_cannot_be_is_refused_by_name(
    storage: PosixStorage, change: dict[str, object], complaint: str
) -> None:
    payload = dataclasses.replace(Payload("x", 1, (2,), np.zeros(8, np.uint8)), **change)
    with pytest.raises(ValueError, match=complaint):
        write_share([payload], storage.stage(1, "share"), threads=1)


def test_what_was_written_is_read_back(
    storage: PosixStorage, payload_of: PayloadOf, write_bundle: Callable[..., object], tmp_path: Path
) -> None:
    table, text = random_floats(7, 3), [b"", b"some text"]
    data, crc = encode_strings(text)
    write_bundle(
        "ckpt-1",
        [
            [payload_of("table", table, (4, 7), (7, 3)), Payload("text", 7, (2,), data, None, crc)],
            [payload_of("scalar", np.array(3, np.int64)), payload_of("table", table, (0, 4), (7, 3))],
        ],
    )
    reader = BundleReader(storage, "ckpt-1")
    assert {entry.name for entry in reader.entries} == {"table", "text", "scalar"}
    read = {name: reader.read(name) for name in reader.tensors}
    assert read["table"].data.tobytes() == table.tobytes()
    assert (read["table"].shape, read["table"].part) == ((7, 3), None)
    assert read["scalar"].data.view(np.int64) == [3]
    assert (read["text"].data.tobytes(), read["text"].crc32c) == (data.tobytes(), crc)
    with pytest.raises(KeyError):
        reader.read("nothing")
