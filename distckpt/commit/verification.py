"""Is a committed checkpoint what was written? The chain of checksums around its tensors, from the journal's on."""

from __future__ import annotations

import hashlib

from distckpt.bundle.verify import MISSING, Fault, verify
from distckpt.commit.manifest import BYTES_MAX, decode_manifest, manifest_file
from distckpt.errors import CorruptCheckpoint, ObjectMissing
from distckpt.model import Manifest
from distckpt.storage.interface import Storage


def read_manifest(storage: Storage, name: str, sha256: str) -> tuple[Manifest | None, list[Fault]]:
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
    storage: Storage, manifest: Manifest | None, part: int = 0, parts: int = 1, threads: int = 2
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


def _index_faults(storage: Storage, key: str, sha256: str) -> list[Fault]:
    try:
        found = hashlib.sha256(storage.read(key)).hexdigest()
    except ObjectMissing:
        return [Fault(key, "", MISSING)]
    return [] if found == sha256 else [Fault(key, "", "it is not the index that was committed: its sha256 is another")]
