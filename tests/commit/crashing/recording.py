"""What a run asked of the file system, as changes of names, of contents, and the points where either became durable.

A rename is two changes here, of the new name and of the old one: file systems make it one, POSIX does not say so for a
power loss. `Sync` of a file says nothing of its names, `Sync` of a folder nothing of what its files hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from crashing.system import Call

TOP = 0


@dataclass(frozen=True, slots=True)
class Name:
    """In `folder` the name `name` is `inode` from now on; None: nothing has it."""

    folder: int
    name: str
    inode: int | None
    is_folder: bool = False


@dataclass(frozen=True, slots=True)
class Write:
    inode: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Sync:
    """`inode` is made durable: a file's content, or a folder's names. `site` as in `Call`."""

    inode: int
    site: str


@dataclass(frozen=True, slots=True)
class Said:
    """The run acknowledged something: from now on `live` (values by step) is what must be found."""

    live: dict[int, float]


Change = Name | Write | Sync | Said


@dataclass
class Recording:
    """A handler for `system.layer`. The file system below `root` is empty at first; see `after`."""

    root: str
    changes: list[Change] = field(default_factory=list)
    names: dict[int, dict[str, int]] = field(default_factory=lambda: {TOP: {}})
    files: set[int] = field(default_factory=set)
    _opened: dict[int, int] = field(default_factory=dict)

    def __call__(self, call: Call, proceed: Callable[[], Any]) -> Any:
        result = proceed()
        match call.name:
            case "open":
                if call.creates:
                    self.files.add(self._enter(call.path, self._new()))
                self._opened[result] = self._find(call.path)
            case "pwrite":
                self.changes.append(Write(self._opened[call.fd], call.offset, call.data[:result]))
            case "fsync":
                self.changes.append(Sync(self._opened[call.fd], call.site))
            case "mkdir":
                self.names[self._enter(call.path, self._new(), is_folder=True)] = {}
            case "link":
                self._enter(call.to, self._find(call.path))
            case "replace":
                self._enter(call.to, self._find(call.path))
                self._leave(call.path)
            case "unlink" | "rmdir":
                self._leave(call.path)
        return result

    @classmethod
    def after(cls, root: str, changes: Sequence[Change]) -> Recording:
        """Goes on from what `changes` made."""
        recording = cls(root, list(changes))
        for change in changes:
            if isinstance(change, Name) and change.inode is not None:
                recording.names[change.folder][change.name] = change.inode
                if change.is_folder:
                    recording.names[change.inode] = {}
                else:
                    recording.files.add(change.inode)
        return recording

    def say(self, live: dict[int, float]) -> None:
        self.changes.append(Said(dict(live)))

    def _new(self) -> int:
        return len(self.names) + len(self.files)

    def _find(self, path: str) -> int:
        inode = TOP
        for part in PurePath(path).relative_to(self.root).parts:
            inode = self.names[inode][part]
        return inode

    def _enter(self, path: str, inode: int, *, is_folder: bool = False) -> int:
        folder, name = self._find(str(PurePath(path).parent)), PurePath(path).name
        self.names[folder][name] = inode
        self.changes.append(Name(folder, name, inode, is_folder))
        return inode

    def _leave(self, path: str) -> None:
        folder, name = self._find(str(PurePath(path).parent)), PurePath(path).name
        del self.names[folder][name]
        self.changes.append(Name(folder, name, None))
