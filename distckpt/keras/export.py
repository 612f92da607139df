"""A trained model, written where its users look for it: a whole new one, the old one, or none.

It is written into a folder beside the target, made durable, and renamed. A file replaces an old one in that one step.
A SavedModel is a directory, and POSIX renames none over another one that is not empty: the old one is renamed aside
first. So a process that dies between the two leaves none under the target's name, and the old one beside it, whole;
the next export clears that away once its own stands.

Every worker of the job calls `export`, since Keras reads variables that the workers hold in parts by collectives. Only
the chief writes to the target; the others write for nobody, and remove it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any
from uuid import uuid4

from distckpt.errors import ConfigurationError
from distckpt.keras.fit import is_keras3
from distckpt.storage.durable import explained, sync_folder

WEIGHTS = ".weights.h5"
MODELS = (".keras", ".h5", ".hdf5")
_MARK = ".distckpt-export-"


def checked_path(path: str | os.PathLike[str]) -> Path:
    """The path, absolute. Raises ConfigurationError where it says no form to write in."""
    target = Path(os.path.abspath(path))  # noqa: PTH100 - Path.resolve would follow the user's links
    if target.suffix and not target.name.endswith(MODELS):  # WEIGHTS among them
        raise ConfigurationError(
            f"export to {target.name}: give a name that ends in {', '.join((*MODELS, WEIGHTS))}, or has no dot, for a "
            "SavedModel"
        )
    return target


def export(model: Any, target: Path, *, is_chief: bool) -> None:
    """Writes `model` to `target`, in the form that its name says. Raises StorageError, and what Keras raises."""
    with explained("export", str(target)):
        if not is_chief:
            with tempfile.TemporaryDirectory(prefix="distckpt-") as nowhere:
                _save(model, Path(nowhere) / target.name)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = target.with_name(f".{target.name}{_MARK}{uuid4().hex}")
        folder.mkdir()
        try:
            written = folder / target.name
            _save(model, written)
            _sync(written)
            _put(written, target, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        _clear(target)


def _save(model: Any, path: Path) -> None:
    """As Keras itself goes by the name; Keras 3 calls the writing of a SavedModel exporting."""
    if path.name.endswith(WEIGHTS):
        model.save_weights(str(path))
    elif not path.suffix and is_keras3(model):
        model.export(str(path), verbose=False)
    else:
        model.save(str(path))


def _sync(path: Path) -> None:
    if not path.is_dir():
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        return
    for each in path.iterdir():
        _sync(each)
    sync_folder(path)


def _put(written: Path, target: Path, folder: Path) -> None:
    """`folder`, beside `target`, takes an old directory."""
    if written.is_dir() and target.is_dir():
        target.rename(folder / "old")
    written.replace(target)
    sync_folder(target.parent)


def _clear(target: Path) -> None:
    """Removes what exports that died left."""
    for left in target.parent.iterdir():
        if left.name.startswith(f".{target.name}{_MARK}"):
            shutil.rmtree(left, ignore_errors=True)
