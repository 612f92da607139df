"""A tool's end of `operations.proto`: finds the coordinator of the job that runs in a directory, and calls it.

Every call has a deadline. A directory whose job has ended, or cannot be reached, is a CoordinatorUnreachable that says
what is known of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from distckpt.errors import ConfigurationError, CoordinatorUnreachable, DirectoryMismatch, Refused
from distckpt.journal.liveness import Beat, read_beat
from distckpt.journal.process import is_gone, this_process
from distckpt.journal.reading import load
from distckpt.journal.records import GenerationRecord
from distckpt.protocol.messages import WishOver
from distckpt.report import JobStatus
from distckpt.rpc import values
from distckpt.rpc.client import open_channel
from distckpt.rpc.credentials import Security
from distckpt.rpc.rendezvous import Rendezvous, find_rendezvous
from distckpt.rpc.v1 import operations_pb2 as pb
from distckpt.rpc.v1 import operations_pb2_grpc as pb_grpc
from distckpt.storage.posix import PosixStorage

ANSWER_S = 5.0
_UNREACHABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class Operator:
    """Calls the coordinator at the other end of `channel`. `whom` names it in errors.

    Every method raises CoordinatorUnreachable where it does not answer in time, Refused where it refuses the call.
    """

    def __init__(self, channel: grpc.Channel, whom: str) -> None:
        self._stub = pb_grpc.OperationsStub(channel)  # type: ignore[no-untyped-call] # generated
        self._whom = whom

    def save_now(self, reason: str, within_s: float) -> WishOver:
        """Waits for the commit of a save that all workers agree on, or for why there is none within `within_s`."""
        request = pb.SaveNowRequest(reason=reason, within_s=within_s)
        reply = self._call(self._stub.SaveNow, request, within_s + ANSWER_S)
        cause = values.cause_from(reply.cause) if reply.HasField("cause") else None
        return WishOver(1, reply.name, reply.step, cause)

    def status(self) -> JobStatus:
        reply = self._call(self._stub.Status, pb.StatusRequest(), ANSWER_S)
        return JobStatus(reply.job, reply.generation, reply.world_size, tuple(reply.present))

    def picture(self) -> bytes:
        """How the job stands, as JSON: for `observe.picture.decode`."""
        json: bytes = self._call(self._stub.Picture, pb.PictureRequest(), ANSWER_S).json
        return json

    def _call(self, method: Any, request: Any, deadline_s: float) -> Any:
        try:
            return method(request, timeout=deadline_s)
        except grpc.RpcError as error:
            if error.code() in _UNREACHABLE:
                raise CoordinatorUnreachable(
                    f"{self._whom} does not answer within {deadline_s:g} s: {error.details()}"
                ) from error
            raise Refused(f"{self._whom}: {error.code().name}: {error.details()}") from error


@contextmanager
def operator_of(directory: str, credentials: Security | None = None) -> Iterator[Operator]:
    """The job that runs in `directory` now. `credentials`: those of a job that brought its own (`Options`).

    Raises ConfigurationError, CoordinatorUnreachable, CorruptData, StorageError.
    """
    if not Path(directory).is_dir():
        raise ConfigurationError(f"{directory}: no such directory")
    storage = PosixStorage(directory)
    begun = load(storage).state.begun
    if begun is None:
        raise CoordinatorUnreachable(f"{directory}: no job of distckpt ever ran here")
    beat = read_beat(storage)
    mine = beat if beat is not None and beat.nonce == begun.nonce else None
    _check_alive(directory, begun, mine)
    rendezvous = _rendezvous(storage, directory, begun)
    whom = f"{directory}: the chief ({begun.process}, at {rendezvous.address})"
    with open_channel(rendezvous.address, credentials or _given(rendezvous, whom)) as channel:
        yield Operator(channel, whom)


def _check_alive(directory: str, begun: GenerationRecord, beat: Beat | None) -> None:
    """Raises where it is certain that the job has ended."""
    job = f"{directory}: no job runs here: job {begun.job} (generation {begun.generation}, {begun.process})"
    if beat is not None and beat.closed:
        raise CoordinatorUnreachable(f"{job} has ended")
    if is_gone(begun.process, this_process()):
        raise CoordinatorUnreachable(f"{job} died: there is no such process any more")


def _rendezvous(storage: PosixStorage, directory: str, begun: GenerationRecord) -> Rendezvous:
    try:
        return find_rendezvous(storage, begun.generation, directory)
    except DirectoryMismatch as error:
        raise CoordinatorUnreachable(
            f"{directory}: job {begun.job} (generation {begun.generation}, {begun.process}) cannot be called: it is "
            "starting, or has just ended"
        ) from error


def _given(rendezvous: Rendezvous, whom: str) -> Security:
    """Those that the chief made: any worker's will do, they all lie in the same file."""
    if not rendezvous.workers:
        how = "call it with those: --tls AUTHORITY CERTIFICATE KEY, or --insecure"
        raise ConfigurationError(f"{whom} has credentials of its own (Options.credentials); {how}")
    return rendezvous.workers[0]
