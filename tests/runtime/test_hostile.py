"""A job under attack: strangers flood its port, a worker misbehaves, and what it writes and says holds no secret."""

from __future__ import annotations

import json
import logging
import math
import resource
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from distckpt.bundle.verify import verify
from distckpt.journal.log import Journal
from distckpt.observe.observatory import FOLDER as DASHBOARD
from distckpt.observe.observatory import Observatory
from distckpt.options import Options
from distckpt.protocol.messages import Sender
from distckpt.protocol.retention import KeepLatest
from distckpt.rpc import values
from distckpt.rpc.checks import MESSAGE_BYTES_MAX
from distckpt.rpc.operator import operator_of
from distckpt.rpc.rendezvous import FOLDER as RENDEZVOUS
from distckpt.rpc.rendezvous import Rendezvous, find_rendezvous
from distckpt.rpc.v1 import coordination_pb2 as pb
from distckpt.rpc.v1 import coordination_pb2_grpc as pb_grpc
from distckpt.rpc.v1 import operations_pb2 as operations
from distckpt.runtime.loop import Loop
from distckpt.storage.posix import PosixStorage

DEADLINE_S = 60.0
CONNECTIONS = 500
STREAMS = 50
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"
GREETINGS = (b"", HELLO, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x00" * 4_096)

Stub = Any


@pytest.fixture
def meeting(job: Any) -> Callable[[], Rendezvous]:
    """What the job's workers were told: asked once it has started."""
    return lambda: find_rendezvous(PosixStorage(job.directory), 1, str(job.directory))


@pytest.fixture
def stub_of() -> Iterator[Callable[[Rendezvous, int], Stub]]:
    """A connection with a worker's own keys, to say what no agent would."""
    with ExitStack() as channels:

        def connect(meeting: Rendezvous, worker: int) -> Stub:
            shown = meeting.workers[worker]
            options = (("grpc.ssl_target_name_override", shown.server_name), ("grpc.max_send_message_length", -1))
            channel = grpc.secure_channel(meeting.address, shown.for_client(), options=options)
            return pb_grpc.CoordinationStub(channels.enter_context(channel))

        yield connect


@pytest.fixture
def _many_files() -> Iterator[None]:
    """Both ends of each connection are in this process: more than the files that some machines let it open at first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4 * CONNECTIONS)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def commit(workers: Any, step: int, model: Any) -> None:
    for ticket in [worker.save(step, model) for worker in workers]:
        assert ticket.outcome.result().checkpoint.name == f"ckpt-{step}"


def flood(address: str, connections: ExitStack) -> None:
    """Strangers: connections that stay open and say nothing, nonsense, or the beginning of something."""
    host, _, port = address.rpartition(":")
    for number in range(CONNECTIONS):
        connection = connections.enter_context(socket.create_connection((host, int(port)), DEADLINE_S))
        with suppress(ConnectionError):  # it may have been turned away
            connection.sendall(GREETINGS[number % len(GREETINGS)])


def code_of(call: Callable[[], object]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    code: grpc.StatusCode = caught.value.code()
    return code


@pytest.mark.usefixtures("_many_files")
def test_floods_oversized_messages_and_readers_that_do_not_read_hold_up_no_save(
    job: Any, model: Any, meeting: Any, stub_of: Any, say: Any, open_stream: Any
) -> None:
    workers = job.start(2)
    commit(workers, 1, model)
    told = meeting()
    big = pb.AgentEnvelope(
        sender=values.sender_to(Sender("job", 1, 1, "oversized")),
        failed=pb.Failed(cause=pb.Cause(message="x" * MESSAGE_BYTES_MAX)),
    )
    with ExitStack() as connections:
        flood(told.address, connections)
        commit(workers, 2, model)
        hostile = stub_of(told, 1)
        names = [Sender("job", 1, 1, f"slow-{number}") for number in range(STREAMS)]
        streams = [open_stream(hostile, pb.AgentEnvelope(sender=values.sender_to(name))) for name in names]
        assert code_of(lambda: say(hostile, big)) is grpc.StatusCode.RESOURCE_EXHAUSTED
        commit(workers, 3, model)
        for stream in streams:
            stream.cancel()
    storage = PosixStorage(job.directory)
    assert [verify(storage, f"ckpt-{step}") for step in (1, 2, 3)] == [[], [], []]


def test_a_worker_that_hands_in_what_is_anothers_changes_nothing(
    job: Any, model: Any, meeting: Any, stub_of: Any, say: Any
) -> None:
    workers = job.start(2)
    commit(workers, 1, model)
    storage = PosixStorage(job.directory)
    staged = storage.staged()
    hostile = stub_of(meeting(), 1)
    me = values.sender_to(workers[1].session.agent._me)
    for handle in [*(each for each in staged if "worker-00001" not in each), "../../../ckpt-1.index", "1/../../x"]:
        for number in (1, 2, 3):
            shard = pb.Shard(worker=1, handle=handle, size_bytes=1)
            said = pb.AgentEnvelope(sender=me, written=pb.Written(round=number, share=1, shard=shard))
            assert code_of(lambda said=said: say(hostile, said)) is grpc.StatusCode.PERMISSION_DENIED
    commit(workers, 2, model)
    assert set(staged) <= set(storage.staged())
    assert [verify(storage, f"ckpt-{step}") for step in (1, 2)] == [[], []]
    assert [each.name for each in Journal.open(storage).state.live] == ["ckpt-1", "ckpt-2"]


def test_a_probe_that_names_a_huge_file_is_not_read_whole(
    job: Any, model: Any, meeting: Any, stub_of: Any, open_stream: Any
) -> None:
    commit(job.start(2), 1, model)
    with (job.directory / "huge").open("wb") as file:
        file.truncate(1 << 42)
    hostile = stub_of(meeting(), 1)
    me = values.sender_to(Sender("job", 1, 1, "hostile"))
    join = pb.AgentEnvelope(sender=me, join=pb.Join(world_size=2, probe="huge"))
    stream = open_stream(hostile, pb.AgentEnvelope(sender=me), join)
    answer = next(stream)
    assert "instead of 'hostile'" in answer.rejected.cause.message
    stream.cancel()


def test_a_wish_for_a_save_within_any_time_ends_no_coordinator(job: Any, model: Any, meeting: Any) -> None:
    workers = job.start(2)
    told = meeting()
    with operator_of(str(job.directory)) as operator:
        asked = [operator._stub.SaveNow.future(operations.SaveNowRequest(within_s=each)) for each in (1e300, 1e9)]
        for wrong in (-1.0, math.nan, math.inf):
            request = operations.SaveNowRequest(within_s=wrong)
            refused = code_of(lambda request=request: operator._stub.SaveNow(request, timeout=DEADLINE_S))
            assert refused is grpc.StatusCode.INVALID_ARGUMENT
        commit(workers, 1, model)
        assert operator.status().present == (0, 1)
        for each in asked:
            each.cancel()
    assert told.generation == 1


class Patient:
    """A machine whose next deadline is in the far future."""

    def __init__(self) -> None:
        self.heard = threading.Event()

    def handle(self, event: str, _: float) -> list[str]:
        if event == "heard":
            self.heard.set()
        return []

    def next_deadline(self) -> float:
        return 1e300


def test_a_deadline_in_the_far_future_ends_no_loop() -> None:
    machine, crashes = Patient(), []
    loop = Loop("patient", machine, "tick", print, crashes.append)
    loop.start()
    loop.post("waited")
    loop.post("heard")
    assert machine.heard.wait(DEADLINE_S)
    loop.close(DEADLINE_S)
    assert crashes == []


def secrets_in(directory: Path) -> set[str]:
    """The lines of all private keys, and the dashboard's token, from the two files that hold them."""
    (meeting,) = (directory / RENDEZVOUS).iterdir()
    (dashboard,) = (directory / DASHBOARD).iterdir()
    assert [stat.S_IMODE(file.stat().st_mode) for file in (meeting, dashboard)] == [0o600, 0o600]
    keys = [worker["key"] for worker in json.loads(meeting.read_text())["workers"]]
    lines = {line for key in keys for line in key.splitlines() if not line.startswith("-----")}
    return {*lines, json.loads(dashboard.read_text())["token"]}


def test_no_secret_stands_in_a_log_a_repr_a_file_an_error_or_the_process_list(
    job: Any, model: Any, meeting: Any, say: Any, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    options = Options(job="job", dashboard=True)
    watching = Observatory(options, KeepLatest(None))
    workers = job.start(2, observer=watching)
    for step in (1, 2):
        commit(workers, step, model)
    secrets = secrets_in(job.directory)
    assert len(secrets) > 2 * 2
    told = meeting()
    shown = [repr(each) for each in (told, told.workers, options, watching, workers)]
    shown += [repr(worker.session) + repr(vars(worker.session.agent)) for worker in workers]
    shown.append(json.dumps(json.loads(watching.picture_json())))
    with grpc.secure_channel(told.address, grpc.ssl_channel_credentials(told.workers[0].authority)) as channel:
        stranger = pb_grpc.CoordinationStub(channel)
        assert code_of(lambda: say(stranger, pb.AgentEnvelope())) is grpc.StatusCode.UNAVAILABLE
    shown += [Path(f"/proc/self/{name}").read_text(errors="replace") for name in ("cmdline", "environ")]
    kept = {file: file.read_bytes() for file in job.directory.rglob("*") if file.is_file() and file.parent.name not in (
        Path(RENDEZVOUS).name, Path(DASHBOARD).name)}  # fmt: skip
    job.stop()
    shown += [caplog.text, *capfd.readouterr()]
    assert "DEBUG" in caplog.text or "INFO" in caplog.text
    assert not [text[:200] for text in shown for secret in secrets if secret in text]
    assert not [file for file, content in kept.items() for secret in secrets if secret.encode() in content]
    assert any("manifest" in file.name for file in kept)
    assert any("journal" in str(file) for file in kept)
    assert not [file for file in job.directory.rglob("*") for folder in (RENDEZVOUS, DASHBOARD) if folder in str(file)]
