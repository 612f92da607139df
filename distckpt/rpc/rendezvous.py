"""How workers learn where the coordinator is, and get their keys: a file on the shared path, for its owner's eyes only.

`.distckpt/rendezvous/GENERATION-RANDOM.json`, a fresh name at every start, so that no network file system can know it
as absent. The name travels by other means (see `runtime`). The chief deletes the file when it closes, and what earlier
generations left when it writes its own.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass
from typing import Any

from distckpt.errors import CorruptData, DirectoryMismatch, ObjectMissing
from distckpt.rpc.credentials import SERVER_NAME, Credentials
from distckpt.storage.interface import Storage

FOLDER = ".distckpt/rendezvous"
SIZE_BYTES_MAX = 64 * 1024 * 1024
_FORMAT = 1
_KEY = re.compile(rf"{re.escape(FOLDER)}/([0-9]{{1,18}})-[0-9a-f]{{32}}\.json")
_ADDRESS = re.compile(r"(?:\[[0-9a-fA-F:.%]+\]|[^\s:\[\]/]+):[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class Rendezvous:
    """`workers` are the credentials of each worker, by index; empty where they were not made for this generation."""

    address: str
    job: str
    generation: int
    workers: tuple[Credentials, ...] = ()


def write_rendezvous(storage: Storage, rendezvous: Rendezvous) -> str:
    """Writes the file under a fresh name, removes those of earlier generations, and returns its key."""
    key = f"{FOLDER}/{rendezvous.generation}-{secrets.token_hex(16)}.json"
    storage.put(key, _encode(rendezvous), private=True)
    for other in storage.keys(FOLDER):
        match = _KEY.fullmatch(other)
        if match and int(match[1]) < rendezvous.generation:
            storage.delete(other)
    return key


def read_rendezvous(storage: Storage, key: str, directory: str = "its checkpoint directory") -> Rendezvous:
    """Raises DirectoryMismatch if there is no such file here, CorruptData if `write_rendezvous` did not write it.

    `directory` is what a person calls the storage, for the error.
    """
    named = _KEY.fullmatch(key)
    if named is None:
        raise CorruptData(key, f"is no name of a rendezvous file ({FOLDER}/GENERATION-RANDOM.json)")
    try:
        size_bytes = storage.size(key)
        content = storage.read(key) if size_bytes <= SIZE_BYTES_MAX else b""
    except ObjectMissing as error:
        message = (
            f"the chief wrote {key} into the checkpoint directory, and this worker does not find it in {directory}: "
            f"is that the same shared directory on all workers?"
        )
        raise DirectoryMismatch(message) from error
    if not content:
        raise CorruptData(key, f"has {size_bytes} bytes: 1 to {SIZE_BYTES_MAX} were expected")
    rendezvous = _decode(key, content)
    if rendezvous.generation != int(named[1]):
        raise CorruptData(key, f"is of generation {rendezvous.generation}, which its name contradicts")
    return rendezvous


def find_rendezvous(storage: Storage, generation: int, directory: str) -> Rendezvous:
    """The file of `generation`, for those who were not told its name. Raises as `read_rendezvous` does."""
    for key in storage.keys(FOLDER):
        named = _KEY.fullmatch(key)
        if named and int(named[1]) == generation:
            return read_rendezvous(storage, key, directory)
    raise DirectoryMismatch(f"{directory}: generation {generation} has no rendezvous file")


def _encode(rendezvous: Rendezvous) -> bytes:
    workers = rendezvous.workers
    value = {
        "format": _FORMAT,
        "address": rendezvous.address,
        "job": rendezvous.job,
        "generation": rendezvous.generation,
        "authority": workers[0].authority.decode("ascii") if workers else "",
        "workers": [
            {"certificate": worker.certificate.decode("ascii"), "key": worker.key.decode("ascii")} for worker in workers
        ],
    }
    return json.dumps(value, indent=1).encode()


def _decode(key: str, content: bytes) -> Rendezvous:
    # No part of the content may stand in an error, not even as its cause: it holds keys.
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        raise CorruptData(key, "is no JSON") from None
    try:
        return _from_json(value)
    except (KeyError, TypeError, AttributeError, ValueError):
        raise CorruptData(key, f"is no rendezvous file of format {_FORMAT}") from None


def _from_json(value: Any) -> Rendezvous:
    """Raises KeyError, TypeError, AttributeError or ValueError where `value` is not what `_encode` makes."""
    address, job, generation = value["address"], value["job"], value["generation"]
    if value["format"] != _FORMAT or not _ADDRESS.fullmatch(address) or not isinstance(job, str):
        raise ValueError
    if type(generation) is not int:
        raise TypeError
    authority = value["authority"].encode("ascii")
    workers = tuple(
        Credentials(authority, worker["certificate"].encode("ascii"), worker["key"].encode("ascii"), SERVER_NAME)
        for worker in value["workers"]
    )
    return Rendezvous(address, job, generation, workers)
