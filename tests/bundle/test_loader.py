"""What a restore reads is read once, verified, and put together as it was."""

from __future__ import annotations

import dataclasses
import mmap
import tracemalloc
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from distckpt.bundle.kept import ALIGNMENT, Memory
from distckpt.bundle.loader import Loader
from distckpt.bundle.payload import Payload
from distckpt.bundle.strings import encode_strings
from distckpt.errors import CorruptCheckpoint, ObjectMissing
from distckpt.model import Extent
from distckpt.storage.posix import PosixStorage

WriteBundle = Callable[..., object]
PayloadOf = Callable[..., Payload]
BIG = np.arange(3_000_000, dtype=np.int32).reshape(3000, 1000)
SMALL = np.arange(7, dtype=np.float64)


@pytest.fixture
def checkpoint(write_bundle: WriteBundle, payload_of: PayloadOf) -> str:
    """Two data files: `big` in two slices, one in each, and small ones between them."""
    text, crc = encode_strings([b"x", b"yy"])
    shards = [
        [payload_of("big", BIG, (0, 1000)), payload_of("small", SMALL), payload_of("none", np.zeros((0, 3), np.int8))],
        [Payload("text", 7, (2,), text, None, crc), payload_of("big", BIG, (1000, 3000))],
    ]
    write_bundle("c", shards)
    return "c"


@pytest.fixture
def counted(storage: PosixStorage, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many bytes of data files were asked for since it was called last."""
    lengths: list[int] = []
    read_at, read_into = PosixStorage.read_at, PosixStorage.read_into

    def counting_at(self: PosixStorage, key: str, offset: int, length: int) -> bytes:
        lengths.append(length)
        return read_at(self, key, offset, length)

    def counting_into(self: PosixStorage, key: str, offset: int, buffers: Sequence[NDArray[np.uint8]]) -> int:
        lengths.extend(buffer.size for buffer in buffers)
        return read_into(self, key, offset, buffers)

    monkeypatch.setattr(PosixStorage, "read_at", counting_at)
    monkeypatch.setattr(PosixStorage, "read_into", counting_into)

    def since() -> int:
        total = sum(lengths)
        lengths.clear()
        return total

    return since


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_each_byte_is_read_once(storage: PosixStorage, checkpoint: str, counted: Callable[[], int], parts: int) -> None:
    size = sum((Path(storage.directory) / name).stat().st_size for name in storage.keys("") if ".data-" in name)
    loader = Loader(storage, checkpoint, threads=2)
    assert loader.verify(parts - 1, parts) == []
    verified = counted()
    taken = {payload.name: payload for payload in loader.take(["big", "small", "none"])}
    text_bytes_max = 16
    assert size - text_bytes_max <= verified + counted() <= size
    assert taken["big"].data.tobytes() == BIG.tobytes()
    assert taken["small"].data.tobytes() == SMALL.tobytes()
    assert (taken["none"].shape, taken["none"].data.size) == ((0, 3), 0)
    assert taken["big"].shape == BIG.shape


def test_what_others_have_verified_is_taken_from_them_and_only_what_can_be_kept_is_sent(
    storage: PosixStorage, checkpoint: str, counted: Callable[[], int]
) -> None:
    mine, theirs = Loader(storage, checkpoint, threads=2), Loader(storage, checkpoint, threads=2)
    assert [mine.verify(0, 2), theirs.verify(1, 2)] == [[], []]
    source, target = theirs.parts(2)[1], mine.parts(2)[1]
    assert sum(part.size_bytes for part in mine.parts(2)) == BIG.nbytes + SMALL.nbytes, "the strings are not among them"
    data = np.empty(source.size_bytes, np.uint8)
    source.read(0, data)
    target.write(0, data)
    mine.keep_all(2)
    counted()
    assert [payload.data.tobytes() for payload in mine.take(["big", "small"])] == [BIG.tobytes(), SMALL.tobytes()]
    assert counted() == 0


def test_a_checkpoint_is_held_once(
    storage: PosixStorage, write_bundle: WriteBundle, payload_of: PayloadOf, request: pytest.FixtureRequest
) -> None:
    mib = 1 << 20
    payloads = [payload_of(f"t{number:03}", np.full((64, 2048), number, np.int32)) for number in range(128)]
    write_bundle("m", [payloads[:64], payloads[64:]])
    names = [payload.name for payload in payloads]
    del payloads
    loader = Loader(storage, "m", threads=2)
    tracemalloc.start()
    request.addfinalizer(tracemalloc.stop)
    before = resident_bytes()
    assert loader.verify() == []
    taken = loader.take(names)
    assert sum(payload.data.nbytes for payload in taken) == 64 * mib
    assert resident_bytes() - before < (64 + 8) * mib
    assert tracemalloc.get_traced_memory()[1] < 8 * mib, "all that is not the tensors' own memory, at any time"


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def test_what_is_taken_is_the_callers(storage: PosixStorage, checkpoint: str) -> None:
    loader = Loader(storage, checkpoint, threads=2)
    loader.take(["small"])[0].data[:] = 0
    assert loader.take(["small"])[0].data.tobytes() == SMALL.tobytes()


def test_strings_and_what_is_not_there_are_left_out(storage: PosixStorage, checkpoint: str) -> None:
    assert [payload.name for payload in Loader(storage, checkpoint, threads=1).take(["text", "small", "other"])] == [
        "small"
    ]


def test_what_changed_after_the_verification_of_others_is_found(
    storage: PosixStorage, checkpoint: str, tmp_path: Path
) -> None:
    loader = Loader(storage, checkpoint, threads=2)
    assert loader.verify(0, 2) == []
    file = tmp_path / "c.data-00001-of-00002"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(CorruptCheckpoint, match="big"):
        loader.take(["big"])


def test_a_file_that_is_cut_short_while_it_is_read_has_faults_of_the_tensors_that_are_not_there(
    storage: PosixStorage,
    write_bundle: WriteBundle,
    payload_of: PayloadOf,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are zeros, as fresh memory is."""
    write_bundle("z", [[payload_of(name, np.zeros(100, np.int8)) for name in ("here", "half", "gone")]])
    file = tmp_path / "z.data-00000-of-00001"
    file.write_bytes(file.read_bytes()[:150])
    monkeypatch.setattr(PosixStorage, "size", lambda self, key: 300 if "data" in key else len(self.read(key)))
    loader = Loader(storage, "z", threads=1)
    assert [fault.tensor for fault in loader.verify()] == ["gone", "half"]
    with pytest.raises(CorruptCheckpoint, match="half"):
        loader.take(["here", "half"])


@pytest.mark.parametrize("threads", [1, 2])
def test_tensors_beside_slices_that_cannot_be_kept_are_as_they_were(
    storage: PosixStorage, write_bundle: WriteBundle, payload_of: PayloadOf, threads: int
) -> None:
    columns = [
        dataclasses.replace(
            payload_of("columns", BIG[:, start : start + 500]),
            shape=BIG.shape,
            part=(Extent(0, 3000), Extent(start, 500)),
        )
        for start in (0, 500)
    ]
    write_bundle("n", [[payload_of("big", BIG), columns[0], payload_of("small", SMALL)], columns[1:]])
    loader = Loader(storage, "n", threads)
    assert loader.verify() == []
    taken = loader.take(["columns", "big", "small"])
    assert [payload.data.tobytes() for payload in taken] == [BIG.tobytes(), SMALL.tobytes()]


def test_a_checkpoint_that_is_not_there_is_missing(storage: PosixStorage) -> None:
    with pytest.raises(ObjectMissing, match="other"):
        Loader(storage, "other", threads=1).take(["x"])


@given(st.lists(st.integers(0, 100_000) | st.integers(1 << 20, 20 << 20), max_size=12))
def test_memory_is_aligned_and_no_tensors_overlap(sizes: list[int]) -> None:
    memory = Memory()
    rooms = [memory.room(size_bytes) for size_bytes in sizes]
    assert [room.size for room in rooms] == sizes
    assert all(room.ctypes.data % ALIGNMENT == 0 for room in rooms)
    places = sorted((room.ctypes.data, room.ctypes.data + room.size) for room in rooms if room.size)
    assert all(end <= start for (_, end), (start, _) in pairwise(places))
