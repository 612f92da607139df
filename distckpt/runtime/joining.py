"""How a worker finds the others: the board, the rendezvous file, its probe, its credentials, the chief's address."""

from __future__ import annotations

import json

from distckpt.errors import (
    ConfigurationError,
    CoordinatorUnreachable,
    DirectoryNotWritable,
    StorageError,
    cause_of,
    error_from,
)
from distckpt.model import CHIEF, Cause, Place
from distckpt.options import Options
from distckpt.protocol.messages import Sender
from distckpt.rpc.credentials import Security
from distckpt.rpc.rendezvous import Rendezvous
from distckpt.runtime.board import Board
from distckpt.storage.posix import PosixStorage


def write_probe(storage: PosixStorage, me: Sender) -> str:
    """The file that shows the chief that this worker writes where the chief reads."""
    key = f".distckpt/probe/{me.generation}-{me.worker}-{me.incarnation}"
    try:
        storage.put(key, me.incarnation.encode())
    except StorageError as error:
        message = f"worker {me.worker} cannot write into {storage.directory}: {error}"
        raise DirectoryNotWritable(message, me.worker) from error
    return key


def tell_key(board: Board, key: str) -> None:
    """The chief is ready: `key` is that of its rendezvous file."""
    board.publish(json.dumps({"rendezvous": key}))


def tell_failure(board: Board, error: BaseException) -> None:
    """The chief cannot open its session: the others need not wait for it."""
    cause = cause_of(error, CHIEF)
    board.publish(json.dumps({"kind": cause.kind, "message": f"the chief: {cause.message}"}))


def look_up(board: Board, place: Place, options: Options) -> str:
    """The key of the rendezvous file. Raises the chief's own error where it failed, CoordinatorUnreachable."""
    try:
        told = json.loads(board.lookup(options.deadlines.join_s))
    except TimeoutError as error:
        chief = place.addresses[CHIEF] if place.addresses else "worker 0"
        raise CoordinatorUnreachable(
            f"worker {place.worker}: the chief ({chief}) opened no CheckpointManager within "
            f"{options.deadlines.join_s:g} s. Do all workers construct the same CheckpointManagers in the same order?",
            CHIEF,
        ) from error
    if "rendezvous" in told:
        return str(told["rendezvous"])
    raise error_from(Cause(told["kind"], told["message"], CHIEF))


def listen_address(place: Place, options: Options) -> tuple[str, int]:
    """Where the chief listens: as the options say, else on a free port, on its own host in the cluster (where there is
    no cluster, only tools of this machine have a reason to call).
    """
    if options.address is None and not place.addresses:
        return "localhost", 0
    if options.address is None:
        return place.addresses[CHIEF].rpartition(":")[0].strip("[]"), 0
    host, _, port = options.address.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigurationError(f'Options(address=...) takes "host:port", got {options.address!r}')
    return host.strip("[]"), int(port)


def credentials_for(place: Place, rendezvous: Rendezvous, options: Options) -> Security:
    """The user's own, else those that the chief made for this worker."""
    if options.credentials is not None:
        return options.credentials
    if place.worker < len(rendezvous.workers):
        return rendezvous.workers[place.worker]
    raise ConfigurationError(
        f"the chief made credentials for {len(rendezvous.workers)} workers and none for worker {place.worker}: have "
        "all workers the same cluster, and the same Options(credentials=...)?"
    )
