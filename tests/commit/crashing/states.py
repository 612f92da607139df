"""Every state that a power loss may leave, of what was recorded.

What is durable: a file's content as of its last fsync, a folder's names as of its last fsync. Of all that came after,
each name independently has any of the values that it had since; each file with unsynced writes has none of them, all,
all but half of the last one, or its new length with zeros in it. So changes are lost and reordered with regard to each
other, in any combination. What is left behind under `.distckpt/temporary/`, which nobody reads, is all there or not.

Bound: where a moment has more than `STATES_MAX` combinations, those with at most two departures from "nothing survived"
or from "everything survived" are taken, and as many random ones, by a fixed seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product
from math import prod
from pathlib import Path
from random import Random

from crashing.recording import TOP, Change, Name, Said, Sync, Write

STATES_MAX = 64
_TEMPORARY = "temporary"


@dataclass(frozen=True, slots=True)
class File:
    """Two names with the same `inode` are one file."""

    inode: int
    content: bytes


Folder = dict[str, "File | Folder"]


@dataclass(frozen=True, slots=True)
class State:
    """What stands in the directory. `live` had been acknowledged, and `coming` was what was being done to it."""

    folder: Folder
    live: dict[int, float]
    coming: dict[int, float]
    moment: int

    @property
    def digest(self) -> bytes:
        told = repr((list(_lines(self.folder, {})), self.live, self.coming))
        return hashlib.blake2b(told.encode(), digest_size=16).digest()


@dataclass
class _Disk:
    """What is durable, and what came since."""

    names: dict[tuple[int, str], list[int | None]] = field(default_factory=dict)  # the first is durable
    contents: dict[int, bytes] = field(default_factory=dict)
    writes: dict[int, list[Write]] = field(default_factory=dict)
    folders: set[int] = field(default_factory=set)
    temporary: set[int] = field(default_factory=set)  # the folders of that name

    def take(self, change: Change) -> None:
        match change:
            case Name(folder, name, inode):
                self.names.setdefault((folder, name), [None]).append(inode)
                if change.is_folder and inode is not None:
                    self.folders.add(inode)
                    self.temporary.update({inode} if name == _TEMPORARY else ())
            case Write(inode):
                self.writes.setdefault(inode, []).append(change)
            case Sync(inode):
                self.contents[inode] = _written(self.contents.get(inode, b""), self.writes.pop(inode, []))
                for key, versions in self.names.items():
                    if key[0] == inode:
                        del versions[:-1]

    def states(self, rng: Random) -> Iterator[Folder]:
        names = [key for key, versions in self.names.items() if len(versions) > 1 and key[0] not in self.temporary]
        files = [inode for inode in self.writes if self._has_a_name(inode)]
        options = [list(range(len(self.names[key]))) for key in names]
        options += [list(range(4)) for _ in files]
        options.append([0, 1])  # what is temporary
        for choice in _choices([len(each) for each in options], rng):
            chosen = {key: self.names[key][number] for key, number in zip(names, choice, strict=False)}
            contents = dict(zip(files, choice[len(names) :], strict=False))
            yield self._folder(TOP, chosen, contents, leftovers=bool(choice[-1]))

    def _has_a_name(self, inode: int) -> bool:
        return any(inode in versions for key, versions in self.names.items() if key[0] not in self.temporary)

    def _folder(
        self, folder: int, chosen: dict[tuple[int, str], int | None], contents: dict[int, int], *, leftovers: bool
    ) -> Folder:
        made: Folder = {}
        for key, versions in self.names.items():
            if key[0] != folder:
                continue
            inode = chosen.get(key, versions[-1])
            if folder in self.temporary and leftovers:
                inode = next((each for each in versions if each is not None), None)
            if inode is None:
                continue
            if inode in self.folders:
                made[key[1]] = self._folder(inode, chosen, contents, leftovers=leftovers)
            else:
                made[key[1]] = File(inode, self._content(inode, contents.get(inode, 1)))
        return made

    def _content(self, inode: int, choice: int) -> bytes:
        """0: as of the last fsync, 1: all, 2: all but half of the last write, 3: the length of all, without them."""
        durable, writes = self.contents.get(inode, b""), self.writes.get(inode, [])
        if choice == 0 or not writes:
            return durable
        whole = _written(durable, writes)
        if choice == 1:
            return whole
        if choice == 2:
            last = writes[-1]
            return _written(durable, [*writes[:-1], Write(inode, last.offset, last.data[: len(last.data) // 2])])
        return durable.ljust(len(whole), b"\0")


def crash_states(changes: Sequence[Change], begin: int = 0) -> Iterator[State]:
    """Each distinct state once. At first the top folder is empty; no power loss comes before the `begin`-th change."""
    rng, disk, seen = Random(0), _Disk(), set()
    said = [change.live for change in changes if isinstance(change, Said)]
    live: dict[int, float] = {}
    for moment, change in enumerate(changes):
        if isinstance(change, Said):
            live = said.pop(0)
        disk.take(change)
        for folder in disk.states(rng) if moment >= begin else ():
            state = State(folder, live, said[0] if said else live, moment)
            if (digest := state.digest) not in seen:
                seen.add(digest)
                yield state


def as_changes(folder: Folder) -> list[Change]:
    """Makes `folder`, durably: what a recording that goes on from it begins with."""
    changes: list[Change] = []
    inodes: dict[int, int] = {}
    _make(folder, TOP, changes, inodes, [TOP])
    return changes


def materialise(folder: Folder, at: Path) -> None:
    """Writes `folder` to the empty directory `at`, hard links and all."""
    files: dict[int, Path] = {}
    pending = [(at, folder)]
    while pending:
        where, content = pending.pop()
        for name, each in content.items():
            path = where / name
            if not isinstance(each, File):
                path.mkdir()
                pending.append((path, each))
            elif each.inode in files:
                path.hardlink_to(files[each.inode])
            else:
                path.write_bytes(each.content)
                files[each.inode] = path


def _make(folder: Folder, inode: int, changes: list[Change], inodes: dict[int, int], used: list[int]) -> None:
    for name, each in folder.items():
        if isinstance(each, File):
            known = inodes.get(each.inode)
            if known is None:
                known = inodes[each.inode] = _next(used)
                changes += [Write(known, 0, each.content), Sync(known, "")]
            changes.append(Name(inode, name, known))
        else:
            below = _next(used)
            changes.append(Name(inode, name, below, is_folder=True))
            _make(each, below, changes, inodes, used)
    changes.append(Sync(inode, ""))


def _next(used: list[int]) -> int:
    used.append(used[-1] + 1)
    return used[-1]


def _written(content: bytes, writes: Iterable[Write]) -> bytes:
    data = bytearray(content)
    for write in writes:
        data.extend(bytes(max(0, write.offset - len(data))))
        data[write.offset : write.offset + len(write.data)] = write.data
    return bytes(data)


def _choices(sizes: list[int], rng: Random) -> Iterator[tuple[int, ...]]:
    """All combinations, or those that the module's bound leaves."""
    if prod(sizes) <= STATES_MAX:
        yield from product(*(range(size) for size in sizes))
        return
    for base in ([0] * len(sizes), [size - 1 for size in sizes]):
        for places in combinations(range(len(sizes)), 2):
            for values in product(*(range(sizes[place]) for place in places)):
                changed = dict(zip(places, values, strict=True))
                yield tuple(changed.get(place, base[place]) for place in range(len(sizes)))
    for _ in range(STATES_MAX):
        yield tuple(rng.randrange(size) for size in sizes)


def _lines(folder: Folder, labels: dict[int, int], path: str = "") -> Iterator[tuple[str, int, bytes]]:
    for name in sorted(folder):
        each = folder[name]
        if isinstance(each, File):
            yield f"{path}/{name}", labels.setdefault(each.inode, len(labels)), each.content
        else:
            yield f"{path}/{name}/", -1, b""
            yield from _lines(each, labels, f"{path}/{name}")
