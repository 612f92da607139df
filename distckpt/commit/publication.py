"""Making a committed checkpoint visible under its TensorFlow names, and taking one away again.

Both follow from the journal alone and are idempotent: whatever cut them short, running them again finishes them. The
index is what makes TensorFlow see a checkpoint, so it comes last and goes first; a checkpoint that replaces one of
the same name is invisible in between, and never a mixture. `Checkpoint.files` is ordered for this: data files,
manifest, index.
"""

from __future__ import annotations

import hashlib

from distckpt.bundle.names import index_file
from distckpt.commit.manifest import manifest_file
from distckpt.errors import ObjectMissing
from distckpt.model import Checkpoint
from distckpt.storage.interface import Storage


def publish(storage: Storage, checkpoint: Checkpoint) -> None:
    """Makes the files of `checkpoint` visible, replacing an earlier checkpoint of that name.

    Raises StorageError; ObjectMissing where a file is neither staged nor published.
    """
    if _is_staged(storage, checkpoint.files[-1].handle):
        storage.delete(index_file(checkpoint.name))
    for file in checkpoint.files:
        storage.publish(file.handle, file.name)


def remove(storage: Storage, checkpoint: Checkpoint) -> None:
    """Deletes the files of a retired checkpoint: the index first; the manifest after the data."""
    *others, last = checkpoint.files
    for file in (last, *others):
        storage.delete(file.name)


def is_left_over(storage: Storage, checkpoint: Checkpoint) -> bool:
    """Whether files of a retired checkpoint may still stand there that are surely its own, and no later one's.

    Plain TensorFlow may have written a checkpoint of the same name since; it has no manifest, and is left alone.
    """
    names = {file.name for file in checkpoint.files}
    manifest = manifest_file(checkpoint.name)
    if manifest in names:
        return _sha256(storage, manifest) == checkpoint.manifest_sha256
    # What a later checkpoint of distckpt's left of it has neither manifest nor index; an adopted one had an index.
    return index_file(checkpoint.name) not in names or not _exists(storage, index_file(checkpoint.name))


def hide(storage: Storage, name: str) -> None:
    """Takes the index of a quarantined checkpoint out of TensorFlow's sight and keeps a copy; its data files stay."""
    try:
        data = storage.read(index_file(name))
    except ObjectMissing:
        return
    storage.put(f".distckpt/quarantine/{index_file(name)}", data)
    storage.delete(index_file(name))


def _is_staged(storage: Storage, handle: str) -> bool:
    try:
        storage.staged_size(handle)
    except ObjectMissing:
        return False
    return True


def _sha256(storage: Storage, key: str) -> str:
    try:
        return hashlib.sha256(storage.read(key)).hexdigest()
    except ObjectMissing:
        return ""


def _exists(storage: Storage, key: str) -> bool:
    try:
        storage.size(key)
    except ObjectMissing:
        return False
    return True
