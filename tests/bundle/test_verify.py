from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from distckpt.bundle import verify as verify_module
from distckpt.bundle.index import encode_index
from distckpt.bundle.payload import Payload
from distckpt.bundle.reader import BundleReader
from distckpt.bundle.strings import encode_strings
from distckpt.bundle.verify import Fault, verify
from distckpt.errors import CorruptCheckpoint
from distckpt.storage.posix import PosixStorage

INDEX, FIRST, SECOND = "c.index", "c.data-00000-of-00002", "c.data-00001-of-00002"


@pytest.fixture
def checkpoint(storage: PosixStorage, write_bundle: Callable[..., object], payload_of: Callable[..., Payload]) -> str:
    table = np.arange(60, dtype=np.float32).reshape(20, 3)
    data, crc = encode_strings([b"abc", b"", b"\xff" * 200])
    write_bundle(
        "c",
        [
            [
                payload_of("table", table, (0, 13), (20, 3)),
                payload_of("empty", np.zeros((0, 2), np.int8)),
                Payload("text", 7, (3,), data, None, crc),
            ],
            [payload_of("bias", np.arange(9, dtype=np.int16)), payload_of("table", table, (13, 20), (20, 3))],
        ],
    )
    return "c"


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(content)


def test_a_sound_checkpoint_has_no_faults(storage: PosixStorage, checkpoint: str) -> None:
    assert verify(storage, checkpoint) == []


@pytest.mark.parametrize("name", [INDEX, FIRST, SECOND])
@pytest.mark.usefixtures("checkpoint")
def test_a_change_of_any_byte_is_found_and_its_file_named(storage: PosixStorage, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for at in range(path.stat().st_size):
        flip(path, at)
        faults = verify(storage, "c", threads=1)
        assert [fault.file for fault in faults] == [name], f"byte {at}"
        flip(path, at)
    assert verify(storage, "c") == []


@pytest.mark.usefixtures("checkpoint")
def test_a_fault_names_the_tensor_and_the_slice(storage: PosixStorage, tmp_path: Path) -> None:
    flip(tmp_path / FIRST, 0)
    flip(tmp_path / SECOND, 17)
    assert verify(storage, "c") == [
        Fault(FIRST, "table", "the slice [0:13, 0:3]: the checksum does not match"),
        Fault(SECOND, "bias", "the checksum does not match"),
    ]
    assert str(verify(storage, "c")[1]) == f"{SECOND}: bias: the checksum does not match"


@pytest.mark.usefixtures("checkpoint")
def test_missing_files_are_faults(storage: PosixStorage, tmp_path: Path) -> None:
    (tmp_path / SECOND).unlink()
    assert verify(storage, "c") == [Fault(SECOND, "", "it is missing")]
    (tmp_path / INDEX).unlink()
    assert verify(storage, "c") == [Fault(INDEX, "", "it is missing")]


@pytest.mark.parametrize("name", [INDEX, FIRST, SECOND])
@pytest.mark.usefixtures("checkpoint")
def test_a_file_cut_short_anywhere_is_a_fault_of_that_file(storage: PosixStorage, tmp_path: Path, name: str) -> None:
    content = (tmp_path / name).read_bytes()
    for length in range(len(content)):
        (tmp_path / name).write_bytes(content[:length])
        assert {fault.file for fault in verify(storage, "c", threads=1)} == {name}, f"{length} bytes"


@pytest.mark.usefixtures("checkpoint")
def test_what_is_beyond_a_files_end_is_counted_and_what_is_within_is_still_checked(
    storage: PosixStorage, tmp_path: Path
) -> None:
    path = tmp_path / SECOND
    path.write_bytes(path.read_bytes()[:-1])
    flip(path, 0)
    size = path.stat().st_size
    assert verify(storage, "c") == [
        Fault(SECOND, "", f"it is cut short: 1 tensors reach beyond its {size} bytes"),
        Fault(SECOND, "bias", "the checksum does not match"),
    ]


@pytest.mark.usefixtures("checkpoint")
def test_bytes_after_the_last_tensor_are_allowed(storage: PosixStorage, tmp_path: Path) -> None:
    with (tmp_path / FIRST).open("ab") as file:
        file.write(b"padding")
    assert verify(storage, "c") == []


@pytest.mark.usefixtures("checkpoint")
def test_an_index_longer_than_it_was_is_a_fault(storage: PosixStorage, tmp_path: Path) -> None:
    content = (tmp_path / INDEX).read_bytes()
    for longer in (content + b"\0", b"\0" + content, content + content):
        (tmp_path / INDEX).write_bytes(longer)
        assert [fault.file for fault in verify(storage, "c")] == [INDEX]


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 7])
@pytest.mark.usefixtures("checkpoint")
def test_the_parts_together_check_every_byte_and_each_only_its_own(
    storage: PosixStorage, tmp_path: Path, parts: int
) -> None:
    for name in (FIRST, SECOND):
        for at in range(0, (tmp_path / name).stat().st_size, 5):
            flip(tmp_path / name, at)
            finders = [part for part in range(parts) if verify(storage, "c", part=part, parts=parts, threads=1)]
            assert len(finders) == 1, f"byte {at} of {name}"
            flip(tmp_path / name, at)


def test_parts_are_about_equal(
    storage: PosixStorage,
    write_bundle: Callable[..., object],
    payload_of: Callable[..., Payload],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = np.random.default_rng(0).integers(1, 30_000, 200)
    payloads = [payload_of(f"t{i}", np.zeros(size, np.uint8)) for i, size in enumerate(sizes)]
    write_bundle("e", [payloads[:50], payloads[50:]])
    read = 0
    original = PosixStorage.read_at

    def counting(self: PosixStorage, key: str, offset: int, length: int) -> bytes:
        nonlocal read
        read += length
        return original(self, key, offset, length)

    monkeypatch.setattr(PosixStorage, "read_at", counting)
    by_part = []
    for part in range(4):
        read = 0
        assert verify(storage, "e", part=part, parts=4, threads=1) == []
        by_part.append(read)
    assert sum(by_part) == sizes.sum()
    assert max(by_part) < 1.05 * sizes.sum() / 4


def test_no_read_is_larger_than_the_bound(
    storage: PosixStorage,
    write_bundle: Callable[..., object],
    payload_of: Callable[..., Payload],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(verify_module, "_READ_BYTES", 1 << 16)
    data, crc = encode_strings([b"x" * 500_000, b"y"])
    write_bundle(
        "l", [[payload_of("big", np.arange(300_000, dtype=np.int64)), Payload("text", 7, (2,), data, None, crc)]]
    )
    lengths = []
    original = PosixStorage.read_at

    def noting(self: PosixStorage, key: str, offset: int, length: int) -> bytes:
        lengths.append(length)
        return original(self, key, offset, length)

    monkeypatch.setattr(PosixStorage, "read_at", noting)
    assert verify(storage, "l", threads=2) == []
    assert max(lengths) == 1 << 16


def test_an_index_whose_tensors_overlap_is_a_fault(storage: PosixStorage, checkpoint: str) -> None:
    index = BundleReader(storage, checkpoint).index
    entries = list(index.shards[1])
    twisted = [index.shards[0], [entries[0], *(dataclasses.replace(entry, offset=0) for entry in entries[1:])]]
    storage.put(INDEX, encode_index(twisted))
    assert [(fault.file, fault.tensor) for fault in verify(storage, checkpoint)] == [(INDEX, "table")]
    with pytest.raises(CorruptCheckpoint, match="table: its bytes at 0 are also those of bias"):
        BundleReader(storage, checkpoint)


@pytest.mark.parametrize("tensor", ["bias", "table", "text"])
@pytest.mark.usefixtures("checkpoint")
def test_a_corrupt_tensor_is_not_read(storage: PosixStorage, tmp_path: Path, tensor: str) -> None:
    reader = BundleReader(storage, "c")
    shard, entry = reader.tensors[tensor][0]
    path = tmp_path / (FIRST if shard == 0 else SECOND)
    flip(path, entry.offset + entry.size_bytes - 1)
    with pytest.raises(CorruptCheckpoint, match=f"{path.name}: {tensor}: "):
        reader.read(tensor)
    path.write_bytes(path.read_bytes()[: entry.offset + entry.size_bytes - 1])
    with pytest.raises(CorruptCheckpoint, match=f"{path.name}: {tensor}: the file ends"):
        reader.read(tensor)
