"""The k-th system call fails, for k = 1, 2, ... until a run is clean: once, or from then on until the restart.

On a real directory, below storage/posix.py, in the same story as test_power_loss.py: saves, a retention, a restart, a
step saved again. Nothing acknowledged is lost, the error says of what it is, the next save works when the fault is
gone, and after a restart nothing is left behind. DISTCKPT_FAILING_CALLS=all takes every error at every call and both
ways; without it each call meets one error and one way, and not every call is tried.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crashing.chief import Chief, start, values
from crashing.story import NEXT, check_next_save, nothing_is_synced
from crashing.system import CHANGING, LOOKING, Call, layer

from distckpt.errors import DistckptError, FatalError, OutcomeUnknown
from distckpt.storage.posix import PosixStorage

ALL = os.environ.get("DISTCKPT_FAILING_CALLS") == "all"
ERRORS = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.ESTALE)
SHORT = 0
"""Not an error: a write that writes half."""
OLD_S = 2 * 86_400


class Fails:
    """A handler for `system.layer`: the `number`-th call fails with `error`, once or always from then on."""

    def __init__(self, number: int, error: int, *, ever: bool) -> None:
        self.calls = 0
        self.struck: Call | None = None
        self._number, self._error, self._ever = number, error, ever

    def __call__(self, call: Call, proceed: Callable[..., Any]) -> Any:
        self.calls += 1
        due = self.calls == self._number or (self._ever and self.calls > self._number > 0)
        if not due or (self._error == SHORT and call.name != "pwrite"):
            return proceed()
        self.struck = self.struck or call
        if self._error == SHORT:
            return proceed(call.data[: len(call.data) // 2 or 1])
        raise OSError(self._error, os.strerror(self._error))


class Story:
    """Saves and starts that go on after an error, as a training would. `sure` are values by step, as acknowledged."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._chief: Chief | None = None
        self.sure: dict[int, float] = {}
        self.unclear: dict[int, float] = {}
        self.errors: list[DistckptError] = []
        self._things = (str(directory), ".distckpt/journal/", "ckpt-")

    def run(self) -> None:
        self._start(keep=2)
        for step in (1, 2, 3):
            self._commit(step, float(step))
        self._start(keep=1)
        self._commit(3, 30.0)
        self._commit(4, 4.0)

    def save_once_more(self) -> None:
        """The same process goes on, if it may; now nothing fails."""
        if self._chief is not None:
            before = len(self.errors)
            self._commit(NEXT - 1, float(NEXT - 1))
            assert self.errors[before:] == []

    def _start(self, keep: int) -> None:
        self._chief = self._tried(lambda: start(PosixStorage.create(self._directory), keep, str(self._directory)))

    def _commit(self, step: int, value: float) -> None:
        chief = self._chief
        if chief is None:
            return
        self.unclear[step] = value
        try:
            if self._tried(lambda: chief.commit(step, value)) is not None:
                self.sure[step] = value
                del self.unclear[step]
        finally:
            live = {each.step for each in chief.journal.state.live}
            self.sure = {each: of for each, of in self.sure.items() if each in live}

    def _tried(self, act: Callable[[], Any]) -> Any:
        """What `act` returns, None where it failed; after what no training survives nothing more is done."""
        try:
            return act()
        except DistckptError as error:
            self.errors.append(error)
            if isinstance(error, FatalError | OutcomeUnknown):
                self._chief = None
            return None

    def check_errors(self) -> None:
        """Each says which object it was about, or which directory."""
        for error in self.errors:
            thing = getattr(error, "key", "") or next((each for each in self._things if each in str(error)), "")
            assert thing, f"it does not say of what it is: {error!r}"
            assert thing in str(error)


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="distckpt")


@pytest.mark.parametrize(("names", "stride"), [(CHANGING, 5), (LOOKING, 12)], ids=["changing", "looking"])
@pytest.mark.timeout(0)  # as long as the number of calls takes
def test_whichever_call_fails_nothing_acknowledged_is_lost_and_the_next_save_works(
    names: tuple[str, ...], stride: int, in_memory: Path
) -> None:
    clean = Fails(0, errno.EIO, ever=False)
    survives(in_memory / "clean", clean, names)
    ways = [(error, ever) for error in (*ERRORS, SHORT) for ever in (False, True)]
    runs = 0
    for turn, number in enumerate(range(1, clean.calls + 1, 1 if ALL else stride)):
        for error, ever in ways if ALL else [ways[turn % len(ways)]]:
            survives(in_memory / f"{number}-{error}-{ever}", Fails(number, error, ever=ever), names)
            runs += 1
    print(f"{runs} runs in which one of {clean.calls} calls failed")  # noqa: T201 - `make crashes` shows it
    assert clean.struck is None
    assert clean.calls > 200


def survives(top: Path, fails: Fails, names: tuple[str, ...]) -> None:
    """The story with that failure, then a save without it, a restart and another save."""
    top.mkdir()
    directory = top / "job"
    story = Story(directory)
    with nothing_is_synced():
        with layer(top, fails, names):
            story.run()
        story.check_errors()
        story.save_once_more()
        make_old(directory)
        storage = PosixStorage.create(directory)
        chief = start(storage, directory=str(directory))
        found = values(storage)
        told = f"call {fails.struck} failed: {found}, acknowledged {story.sure}, unclear {story.unclear}"
        assert all(found.get(step) in (value, story.unclear.get(step)) for step, value in story.sure.items()), told
        check_next_save(directory, chief)
        assert list((directory / ".distckpt/temporary").iterdir()) == [], told
    shutil.rmtree(top)


def make_old(directory: Path) -> None:
    """As if a day had passed: what crashed writers left in the temporary folder may be cleared away then."""
    for path in (directory / ".distckpt/temporary").glob("*"):
        os.utime(path, (path.stat().st_mtime - OLD_S, path.stat().st_mtime - OLD_S))
