"""A layer below storage/posix.py: every system call that it makes on a directory passes through here.

Nothing of distckpt is replaced. The functions of the module `os` are, for as long as the layer stands; the calls are
real unless the handler does something else. Calls outside of the directory are left alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

CHANGING = ("open", "pwrite", "fsync", "link", "replace", "unlink", "mkdir", "rmdir")
LOOKING = ("pread", "lstat", "scandir")
_LAYER = "distckpt/storage/"


@dataclass(frozen=True, slots=True)
class Call:
    """One call. `path` and `to` are absolute; for a call on a descriptor `path` is what was opened.

    `site` says which functions of storage/ asked for it, outermost first. `creates`: an `open` that makes a file.
    """

    name: str
    path: str
    site: str
    to: str = ""
    fd: int = -1
    data: bytes = b""
    offset: int = 0
    creates: bool = False

    def __str__(self) -> str:
        return f"{self.name} {self.path}{' ' + self.to if self.to else ''} [{self.site}]"


Handler = Callable[[Call, Callable[..., Any]], Any]
"""Is given the call and `proceed`, which makes it (`proceed(data=...)`: with other data to write)."""


@contextmanager
def layer(root: Path, handler: Handler, names: tuple[str, ...] = CHANGING) -> Iterator[None]:
    """Every call of `names` on something below `root` goes to `handler`."""
    opened: dict[int, str] = {}
    inside = str(root)

    def through(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            first = arguments[0] if arguments else "."
            path = opened.get(first, "") if isinstance(first, int) else os.fspath(first)
            if not path.startswith(inside):
                return real(*arguments, **options)
            described = _described(name, path, arguments)

            def proceed(data: bytes | None = None) -> Any:
                changed = arguments if data is None else (first, data, *arguments[2:])
                return real(*changed, **options)

            result = handler(described, proceed)
            if name == "open":
                opened[result] = path
            return result

        return call

    with patch.multiple(os, **{name: through(name) for name in {*names, "open"}}):
        yield


def _described(name: str, path: str, arguments: tuple[Any, ...]) -> Call:
    match name:
        case "link" | "replace":
            return Call(name, path, _site(), to=os.fspath(arguments[1]))
        case "pwrite":
            return Call(name, path, _site(), fd=arguments[0], data=bytes(arguments[1]), offset=arguments[2])
        case "open":
            return Call(name, path, _site(), creates=bool(arguments[1] & os.O_CREAT))
    return Call(name, path, _site(), fd=arguments[0] if isinstance(arguments[0], int) else -1)


def _site() -> str:
    """The functions of storage/ that are on the stack, those of contextlib and pathlib left out."""
    names: list[str] = []
    frame = sys._getframe(1)
    while frame is not None:
        if _LAYER in frame.f_code.co_filename and not frame.f_code.co_name.startswith("<"):
            names.append(frame.f_code.co_name)
        frame = frame.f_back
    return ".".join(reversed(names))
