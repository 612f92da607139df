"""Making a committed checkpoint visible under its TensorFlow names, and taking one away again.

Both follow from the journal alone and are idempotent: whatever cut them short, running them again finishes them. The
index is what makes TensorFlow see a checkpoint, so it comes last and goes first; a checkpoint that replaces one of the
same name is invisible in between, and never a mixture. `Checkpoint.files` is ordered for this: data files, the
workers' own states, manifest, index.

Visible names are shared, and no file system fences them: a chief of a sealed generation that was frozen between two
steps of what is done here may still rename over one, or delete one, when it wakes. So each file also has a name of its
own (its handle) that no other generation ever uses: nothing is lost, and `heal` makes the visible names right again
(docs/decisions/0005-names-heal.md).
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from distckpt.bundle.index import INDEX_BYTES_MAX
from distckpt.bundle.names import index_file
from distckpt.errors import ObjectMissing
from distckpt.model import Checkpoint, FileRecord
from distckpt.storage.interface import Storage

log = logging.getLogger("distckpt.commit")


def publish(storage: Storage, checkpoint: Checkpoint) -> None:
    """Makes the files of `checkpoint` visible, replacing an earlier checkpoint of that name.

    Raises StorageError; ObjectMissing where a file has neither its own name nor its visible one.
    """
    *rest, index = checkpoint.files
    if has_own_name(storage, index.handle) and not storage.is_published(index.handle, index.name):
        storage.delete(index.name)
    with storage.together():
        for file in rest:
            _publish_file(storage, file)
    _publish_file(storage, index)


def heal(storage: Storage, checkpoint: Checkpoint) -> bool:
    """Publishes `checkpoint` again if one of its visible names is not its own any more; says whether it was so."""
    if checkpoint.adopted or all(storage.is_published(file.handle, file.name) for file in checkpoint.files):
        return False
    publish(storage, checkpoint)
    return True


def heal_loudly(storage: Storage, checkpoint: Checkpoint) -> None:
    """`heal`, told in the log."""
    if heal(storage, checkpoint):
        log.warning("the files of %s had been moved or deleted, and were put back", checkpoint.name)


def is_visible(storage: Storage, checkpoint: Checkpoint) -> bool:
    """Whether every file has its visible name; one that has no name of its own is told by its size."""
    return all(
        storage.is_published(file.handle, file.name)
        if file.handle and has_own_name(storage, file.handle)
        else _has_size(storage, file)
        for file in checkpoint.files
    )


def unpublish(storage: Storage, checkpoint: Checkpoint, others: Collection[str] = ()) -> None:
    """Deletes the visible names that are a retired or replaced checkpoint's own, index first.

    `others` are names that another checkpoint has now, be it with a link to the same file. One that plain TensorFlow
    wrote owns every name that it has, but for those.
    """
    *rest, index = checkpoint.files
    _unpublish_file(storage, index, others)
    with storage.together():
        for file in rest:
            _unpublish_file(storage, file, others)


def remove(storage: Storage, checkpoint: Checkpoint, others: Collection[str] = ()) -> None:
    """Deletes a retired or replaced checkpoint: its visible names, see `unpublish`, then its own names."""
    unpublish(storage, checkpoint, others)
    *rest, index = checkpoint.files
    with storage.together():
        for file in rest:
            _discard_file(storage, file, others)
    _discard_file(storage, index, others)


def is_removed(storage: Storage, checkpoint: Checkpoint) -> bool:
    """Whether `remove` has come to its end: the last file's own name (of an adopted one: its only one) goes last."""
    last = checkpoint.files[-1]
    return not (has_own_name(storage, last.handle) if last.handle else _exists(storage, last.name))


def removal_is_safe(storage: Storage, checkpoint: Checkpoint) -> bool:
    """Whether removing a retired checkpoint again can only touch its own files.

    One that plain TensorFlow wrote has no names of its own, and TensorFlow may have written that name again since: it
    is removed only where its removal had begun, so that its index is gone.
    """
    return not checkpoint.adopted or not _exists(storage, index_file(checkpoint.name))


def hide(storage: Storage, checkpoint: Checkpoint) -> None:
    """Takes a quarantined checkpoint's index out of TensorFlow's sight, if it is its own, and keeps a copy of
    as much as an index can have.
    """
    index = checkpoint.files[-1]
    if not index.handle or storage.is_published(index.handle, index.name):
        storage.put(f".distckpt/quarantine/{index.name}", storage.read_at(index.name, 0, INDEX_BYTES_MAX))
        storage.delete(index.name)


def has_own_name(storage: Storage, handle: str) -> bool:
    """Whether the file with this handle is still there under it."""
    try:
        storage.staged_size(handle)
    except ObjectMissing:
        return False
    return True


def _publish_file(storage: Storage, file: FileRecord) -> None:
    try:
        storage.publish(file.handle, file.name)
    except ObjectMissing:  # the directory was copied without its hidden folder
        if storage.size(file.name) != file.size_bytes:
            raise


def _unpublish_file(storage: Storage, file: FileRecord, others: Collection[str]) -> None:
    if file.name not in others and (not file.handle or storage.is_published(file.handle, file.name)):
        storage.delete(file.name)


def _discard_file(storage: Storage, file: FileRecord, others: Collection[str]) -> None:
    if file.handle:  # with the visible name: a chief of a sealed generation may have published it meanwhile
        storage.discard(file.handle, "" if file.name in others else file.name)


def _has_size(storage: Storage, file: FileRecord) -> bool:
    try:
        return storage.size(file.name) == file.size_bytes
    except ObjectMissing:
        return False


def _exists(storage: Storage, key: str) -> bool:
    try:
        storage.size(key)
    except ObjectMissing:
        return False
    return True
