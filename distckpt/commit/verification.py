"""Is a committed checkpoint what was written? The chain of checksums around its tensors, from the journal's on.

A restore reads a checkpoint's files under their own names (`under_own_names`): a frozen chief of a sealed generation,
when it wakes, may take a visible name away or move it for a moment, and what is sound would be found corrupt.
"""

from __future__ import annotations

import hashlib

from distckpt.bundle.index_file import read_index_file
from distckpt.bundle.verify import MISSING, Fault, verify
from distckpt.commit.manifest import BYTES_MAX, decode_manifest, manifest_file
from distckpt.commit.publication import has_own_name, heal_loudly
from distckpt.errors import CorruptCheckpoint, ObjectMissing
from distckpt.journal.reading import load
from distckpt.model import Manifest
from distckpt.storage.interface import Readable, Storage


def under_own_names(storage: Storage, name: str, sha256: str, *, healing: bool = False) -> Readable:
    """`storage`, in which the visible names of checkpoint `name` stand for the very files that were committed.

    `sha256` is its manifest's. Those that have no name of their own (plain TensorFlow wrote the checkpoint, or the
    directory was copied without its hidden folder) are read under their visible ones. `healing`: visible names that are
    wrong are put right, for what TensorFlow reads by itself. Raises StorageError, CorruptJournal.
    """
    live = [each for each in load(storage).state.live if each.name == name and each.manifest_sha256 == sha256]
    files = [file for checkpoint in live for file in checkpoint.files if file.handle]
    own = {file.name: file.handle for file in files if has_own_name(storage, file.handle)}
    if healing and len(own) == len(files):
        for checkpoint in live:
            heal_loudly(storage, checkpoint)
    return storage.under_own_names(own)


def read_manifest(storage: Readable, name: str, sha256: str) -> tuple[Manifest | None, list[Fault]]:
    """The manifest of checkpoint `name`, and what is wrong with it, or with the index that it vouches for.

    None where it cannot be trusted, and where plain TensorFlow wrote the checkpoint: then `sha256`, which is the
    journal's, is empty. Raises StorageError where the storage failed, never because of what it holds.
    """
    if not sha256:
        return None, []
    key = manifest_file(name)
    try:
        data = storage.read_at(key, 0, BYTES_MAX + 1)
        if hashlib.sha256(data).hexdigest() != sha256:
            return None, [Fault(key, "", "it is not the manifest that was committed: its sha256 is another")]
        manifest = decode_manifest(data, key)
    except ObjectMissing:
        return None, [Fault(key, "", MISSING)]
    except CorruptCheckpoint as error:
        return None, [Fault(key, "", error.detail)]
    return manifest, _index_faults(storage, manifest.index.name, manifest.index_sha256)


def verify_states(
    storage: Readable, manifest: Manifest | None, part: int = 0, parts: int = 1, threads: int = 2
) -> list[Fault]:
    """What is wrong with the workers' own states: of those whose turn is `part`, where each has one of `parts`.

    Raises StorageError where the storage failed, never because of what it holds.
    """
    faults: list[Fault] = []
    for state in manifest.states.files if manifest is not None and manifest.states is not None else ():
        if state.worker % parts == part:
            found = _index_faults(storage, state.index.name, state.sha256)
            faults += found or verify(storage, state.name, threads=threads)
    return faults


def _index_faults(storage: Readable, key: str, sha256: str) -> list[Fault]:
    try:
        found = hashlib.sha256(read_index_file(storage, key)).hexdigest()
    except ObjectMissing:
        return [Fault(key, "", MISSING)]
    except CorruptCheckpoint as error:
        return [Fault(key, "", error.detail)]
    return [] if found == sha256 else [Fault(key, "", "it is not the index that was committed: its sha256 is another")]
