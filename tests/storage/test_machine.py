"""Whatever is done to them, in whatever order, a directory and the memory answer alike."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from distckpt.errors import DistckptError
from distckpt.storage.interface import StagedFile, Storage
from distckpt.storage.memory import MemoryStorage
from distckpt.storage.posix import PosixStorage

KEYS = st.sampled_from(["a", "b", "folder/a", "folder/b", ".distckpt/journal/1", ".distckpt/leases/x/y", "a/../b", ""])
DATA = st.binary(max_size=40)
NAMES = st.sampled_from(["x", "y"])
T = TypeVar("T")
GENERATIONS = st.integers(0, 1)
HANDLES = st.builds("{}/{}".format, GENERATIONS, NAMES)


class Both(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.posix: Storage = PosixStorage.create(Path(self.folder.name) / "job")
        self.memory: Storage = MemoryStorage()
        self.files: list[tuple[StagedFile, StagedFile, str]] = []

    def teardown(self) -> None:
        for posix, memory, _ in self.files:
            posix.abandon()
            memory.abandon()
        self.folder.cleanup()

    def agree(self, action: Callable[[Storage], object]) -> None:
        assert outcome(lambda: action(self.posix)) == outcome(lambda: action(self.memory))

    @rule(key=KEYS, data=DATA)
    def put(self, key: str, data: bytes) -> None:
        self.agree(lambda storage: storage.put(key, data))

    @rule(key=KEYS, data=DATA)
    def put_if_absent(self, key: str, data: bytes) -> None:
        self.agree(lambda storage: storage.put_if_absent(key, data))

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        self.agree(lambda storage: storage.delete(key))

    @rule(key=KEYS, offset=st.integers(0, 50), length=st.integers(0, 50))
    def read(self, key: str, offset: int, length: int) -> None:
        self.agree(lambda storage: storage.read(key))
        self.agree(lambda storage: storage.size(key))
        self.agree(lambda storage: storage.read_at(key, offset, length))

    @rule(generation=GENERATIONS, name=NAMES)
    def stage(self, generation: int, name: str) -> None:
        made: list[StagedFile] = []
        self.agree(lambda storage: made.append(storage.stage(generation, name)))
        if made:
            self.files.append((made[0], made[1], f"{generation}/{name}"))

    @rule(data=DATA, offset=st.integers(0, 50), which=st.integers(0, 2))
    def write_at(self, data: bytes, offset: int, which: int) -> None:
        self.on_file(which, lambda file: file.write_at(offset, data))

    @rule(which=st.integers(0, 2))
    def seal(self, which: int) -> None:
        self.on_file(which, lambda file: file.seal())

    @rule(which=st.integers(0, 2))
    def abandon(self, which: int) -> None:
        self.on_file(which, lambda file: file.abandon())

    def on_file(self, which: int, action: Callable[[StagedFile], object]) -> None:
        if self.files:
            posix, memory, _ = self.files[which % len(self.files)]
            assert outcome(lambda: action(posix)) == outcome(lambda: action(memory))

    @rule(which=st.integers(0, 2), key=KEYS)
    def publish_sealed(self, which: int, key: str) -> None:
        """Only what was sealed, once: to publish anything else is a fault that a directory cannot notice."""
        if self.files:
            posix, memory, _ = self.files.pop(which % len(self.files))
            handles = outcome(posix.seal), outcome(memory.seal)
            assert handles[0] == handles[1]
            for _ in range(2):
                self.agree(lambda storage: storage.staged_size(str(handles[0])))
                self.agree(lambda storage: storage.publish(str(handles[0]), key))

    @rule(handle=HANDLES, generation=GENERATIONS, name=NAMES)
    def stage_link(self, handle: str, generation: int, name: str) -> None:
        self.agree(lambda storage: storage.stage_link(handle, generation, name))

    @rule(handle=HANDLES, key=st.just("") | KEYS)
    def discard(self, handle: str, key: str) -> None:
        self.agree(lambda storage: storage.discard(handle, key))
        self.files = [each for each in self.files if each[2] != handle]  # another file may get that name, unsealed

    @invariant()
    def the_same_is_there(self) -> None:
        for prefix in ("", "folder"):
            self.agree(lambda storage, p=prefix: storage.keys(p))
        self.agree(lambda storage: storage.staged())


def outcome(action: Callable[[], T]) -> T | str:
    """What came of it; of an error the kind, since each storage has its own words."""
    try:
        return action()
    except (DistckptError, ValueError) as error:
        return type(error).__name__


TestBoth = Both.TestCase
TestBoth.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
