"""Messages and files that were made to harm: a value or a clear refusal, and no worker acts for another one."""

from __future__ import annotations

import contextlib
import json
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import grpc
import pytest
from google.protobuf.message import DecodeError, Message
from hypothesis import given, settings
from hypothesis import strategies as st

from distckpt.errors import CorruptData
from distckpt.model import Cause, Checkpoint, DataFile, Entry, Extent, FileRecord, Shard, StagedState, TensorSpec
from distckpt.protocol import messages as m
from distckpt.protocol.staged import foreign_handle, staged_name
from distckpt.rpc import convert
from distckpt.rpc.checks import MalformedMessage
from distckpt.rpc.rendezvous import FOLDER, Rendezvous, read_rendezvous, write_rendezvous
from distckpt.rpc.v1 import coordination_pb2 as pb
from distckpt.storage.memory import MemoryStorage

ME = m.Sender("job", 7, 1, "first")
PART = (Extent(0, 2), Extent(0, 3))
OWN = f"7/{staged_name(ME, 3, 1)}"
STATE = StagedState(2, f"{OWN}-state", 5, f"{OWN}-state-index", 6, "00")
ENTRY = Entry("t", 1, (4, 3), 0, 24, 9, PART)
FROZEN = DataFile(f"{OWN}-frozen", 24, (replace(ENTRY, name="frozen"),), linked=True)
SHARD = Shard(1, OWN, 24, (ENTRY,), STATE, FROZEN)
CHECKPOINT = Checkpoint("ckpt-1", 1, 5.0, 7, (FileRecord("ckpt-1.index", 4, "7/x"),), "00", {"loss": 1.0})
SAID = [
    m.Join(2, "host", 5, "probe", "host:1"),
    m.Heartbeat(3, m.Activity(1, 2, 3, (m.Stall(1, 2, 0.5),))),
    m.Announce(1, 5, "ckpt-5", "digest", 0, {"loss": 0.5}),
    m.Described(1, (TensorSpec("t", 1, (4, 3), 24, PART),)),
    m.Written(3, 1, SHARD),
    m.Leave(Cause("WriteFailed", "no", 1)),
]
ANSWERED = [
    m.Welcome(1, (CHECKPOINT,)),
    m.Committed(1, 1, CHECKPOINT, ("ckpt-0",)),
    m.Aborted(1, 1, Cause("WriteFailed", "no", 1)),
]


def mutate(data: st.DataObject, whole: bytes) -> bytes:
    """Some bytes of `whole` changed, cut, or doubled."""
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        at, end = sorted((data.draw(st.integers(0, len(content))), data.draw(st.integers(0, len(content)))))
        change = data.draw(st.binary(max_size=10) | st.just(bytes(content[at:end]) * 2))
        content[at : data.draw(st.sampled_from([at, at + 1, end]))] = change
    return bytes(content)


def converted(parse: Any, convert_: Callable[[Any], object], content: bytes) -> None:
    with contextlib.suppress(DecodeError, MalformedMessage):
        message: Message = parse.FromString(content)
        convert_(message)


@pytest.mark.parametrize("message", SAID, ids=lambda message: type(message).__name__)
def test_a_mutated_message_of_an_agent_is_a_value_or_malformed(message: Any) -> None:
    whole = convert.agent_to_proto(m.AgentEnvelope(ME, message)).SerializeToString()

    @settings(max_examples=100, deadline=None)
    @given(st.data())
    def survives(data: st.DataObject) -> None:
        converted(pb.AgentEnvelope, convert.agent_from_proto, mutate(data, whole))

    survives()


@pytest.mark.parametrize("message", ANSWERED, ids=lambda message: type(message).__name__)
def test_a_mutated_message_of_the_coordinator_is_a_value_or_malformed(message: Any) -> None:
    whole = convert.CoordinatorWire().encode(m.CoordinatorEnvelope(ME, message))

    @settings(max_examples=100, deadline=None)
    @given(st.data())
    def survives(data: st.DataObject) -> None:
        converted(pb.CoordinatorEnvelope, convert.coordinator_from_proto, mutate(data, whole))

    survives()


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_forged_rendezvous_file_is_read_or_refused_without_showing_a_key(
    forged: Any, keys: Any, data: st.DataObject
) -> None:
    storage = MemoryStorage()
    sound = storage.read(write_rendezvous(storage, Rendezvous("chief:4711", "job", 7, keys[1])))
    key = f"{FOLDER}/7-{'0' * 32}.json"
    storage.put(key, json.dumps(data.draw(forged(json.loads(sound)))).encode())
    try:
        told = repr(read_rendezvous(storage, key))
    except CorruptData as error:
        told = "".join(traceback.format_exception(error))
    assert "PRIVATE" not in told


def test_what_a_worker_staged_for_this_share_of_this_round_is_its_own() -> None:
    assert foreign_handle(ME, m.Written(3, 1, SHARD)) is None
    assert foreign_handle(ME, m.Written(3, 1, Shard(1, "", 0, ()))) is None


FOREIGN = {
    "outside": "../../../etc/passwd",
    "absolute": "/etc/passwd",
    "out of staging": "7/../../ckpt-1.index",
    "another worker's": f"7/{staged_name(replace(ME, worker=2), 3, 1)}",
    "another incarnation's": f"7/{staged_name(replace(ME, incarnation='second'), 3, 1)}",
    "another generation's": f"6/{staged_name(ME, 3, 1)}",
    "another round's": f"7/{staged_name(ME, 2, 1)}",
    "another share's": f"7/{staged_name(ME, 3, 0)}",
    "the chief's index": "7/00000003-ckpt-1.index",
    "its own state": f"{OWN}-state",
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_worker_can_hand_in_no_file_but_its_own(what: str, serve: Any, stub: Any, say: Any, caplog: Any) -> None:
    server = serve()
    states = (replace(STATE, data_handle=FOREIGN[what]), replace(STATE, index_handle=FOREIGN[what]))
    forgeries = [
        replace(SHARD, handle=FOREIGN[what]),
        *(replace(SHARD, state=each) for each in states if each != STATE),
        replace(SHARD, frozen=replace(FROZEN, handle=FOREIGN[what])),
    ]
    bare = stub(server.address)
    for forgery in forgeries:
        said = convert.agent_to_proto(m.AgentEnvelope(ME, m.Written(3, 1, forgery)))
        with pytest.raises(grpc.RpcError) as caught:
            say(bare, said)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "is no file that worker 1 staged for round 3" in caught.value.details()
    say(bare, convert.agent_to_proto(m.AgentEnvelope(ME, m.Written(3, 1, SHARD))))
    assert server.messages.items == [m.AgentEnvelope(ME, m.Written(3, 1, SHARD))]
    assert caplog.text.count("is no file that worker 1 staged") == 1
