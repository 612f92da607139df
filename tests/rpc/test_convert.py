"""Every message survives the wire; nothing else gets in."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from distckpt.model import (
    Cause,
    Check,
    Checkpoint,
    DataFile,
    Entry,
    Extent,
    FileRecord,
    Shard,
    Split,
    StagedState,
    Sum,
    TensorSpec,
)
from distckpt.protocol import messages as m
from distckpt.rpc import agent_messages, convert, coordinator_messages
from distckpt.rpc.checks import NAME_CHARS_MAX, TEXT_CHARS_MAX, WORKER_MAX, MalformedMessage
from distckpt.rpc.v1 import coordination_pb2 as pb

natural = st.integers(0, 2**63 - 1)
positive = st.integers(1, 2**63 - 1)
step = st.integers(-1, 2**63 - 1)
worker = st.integers(0, WORKER_MAX)
seconds = st.floats(0, 1e9)
name = st.text(min_size=1, max_size=40)
text = st.text(max_size=40)
# NaN is not equal to itself: it has a test of its own.
metrics = st.dictionaries(name, st.floats(allow_nan=False), max_size=4)
shape = st.lists(natural, max_size=4).map(tuple)
cause = st.builds(Cause, name, text, st.none() | worker)
file = st.builds(FileRecord, name, natural, text)
sender = st.builds(m.Sender, name, natural, worker, name)
checkpoint = st.builds(
    Checkpoint,
    name,
    step,
    st.floats(allow_nan=False, allow_infinity=False),
    natural,
    st.lists(file, max_size=3).map(tuple),
    text,
    metrics,
    st.booleans(),
)


@st.composite
def with_part(draw: Any, build: Any) -> Any:
    dimensions = draw(shape)
    extent = st.builds(Extent, natural, natural)
    part = st.none() | st.tuples(*[extent] * len(dimensions))
    return build(draw, dimensions, draw(part))


spec = with_part(
    lambda draw, shape, part: TensorSpec(
        draw(name), draw(st.integers(0, 200)), shape, draw(natural), part, draw(st.booleans())
    )
)
entry = with_part(
    lambda draw, shape, part: Entry(
        draw(name),
        draw(st.integers(0, 200)),
        shape,
        draw(natural),
        draw(natural),
        draw(st.integers(0, 2**32 - 1)),
        part,
    )
)
state = st.none() | st.builds(StagedState, positive, name, natural, name, natural, name)
entries = st.lists(entry, max_size=3).map(tuple)
frozen = st.none() | st.builds(DataFile, name, natural, entries, st.booleans())
shard = st.builds(Shard, worker, name, natural, entries, state, frozen) | st.builds(
    Shard, worker, st.just(""), st.just(0), st.just(()), state, frozen
)
sums = st.lists(st.builds(Sum, name, natural, st.integers(0, 2**32 - 1)), max_size=3).map(tuple)
check = st.builds(Check, natural, sums)
stall = st.builds(m.Stall, positive, natural, st.floats(allow_nan=False, allow_infinity=False))
activity = st.builds(m.Activity, natural, natural, natural, st.lists(stall, max_size=m.STALLS_MAX).map(tuple))

split = st.builds(Split, natural, st.lists(worker, min_size=1, max_size=4).map(tuple))
weight = st.integers(1, coordinator_messages.WEIGHT_MAX)

AGENT = {
    m.Join: st.builds(m.Join, positive, text, natural, name, text),
    m.Heartbeat: st.builds(
        m.Heartbeat, step, activity, st.lists(natural, max_size=m.KEPT_MAX).map(tuple), st.booleans()
    ),
    m.Announce: st.builds(m.Announce, positive, natural, name, name, natural, metrics, st.booleans(), st.booleans()),
    m.Described: st.builds(m.Described, natural, st.lists(spec, max_size=3).map(tuple)),
    m.Written: st.builds(m.Written, natural, natural, shard, st.none() | check),
    m.NotWritten: st.builds(m.NotWritten, natural, natural, cause),
    m.Failed: st.builds(m.Failed, natural, natural, cause),
    m.RestoreRequest: st.builds(m.RestoreRequest, positive, name),
    m.Verified: st.builds(m.Verified, natural, name, st.none() | text),
    m.Leave: st.builds(m.Leave, st.none() | cause),
    m.SaveWanted: st.builds(m.SaveWanted, positive, st.builds(m.Wish, text, seconds, st.booleans())),
    m.Ceiling: st.builds(m.Ceiling, natural, natural),
}
COORDINATOR = {
    m.Welcome: st.builds(m.Welcome, natural, st.lists(checkpoint, max_size=3).map(tuple)),
    m.Rejected: st.builds(m.Rejected, cause),
    m.Decided: st.lists(st.tuples(natural, weight), min_size=1, max_size=4).flatmap(
        lambda each: st.builds(
            m.Decided,
            natural,
            natural,
            natural,
            st.just(tuple(own for own, _ in each)),
            st.lists(split, max_size=3).map(tuple),
            st.sampled_from([(), tuple(weight for _, weight in each)]),
        )
    ),
    m.Describe: st.builds(m.Describe, natural, natural),
    m.Committed: st.builds(m.Committed, natural, natural, checkpoint, st.lists(name, max_size=3).map(tuple)),
    m.Aborted: st.builds(m.Aborted, natural, natural, cause),
    m.Verify: st.builds(m.Verify, natural, natural, name, st.integers(0, 9), st.integers(10, 2**63 - 1), text),
    m.RestoreDecided: st.builds(
        m.RestoreDecided, natural, natural, st.none() | name, st.lists(name, max_size=3).map(tuple)
    ),
    m.Alive: st.builds(m.Alive, st.booleans()),
    m.Salvage: st.builds(m.Salvage, natural),
    m.FencedOff: st.builds(m.FencedOff, natural, cause),
    m.Propose: st.builds(m.Propose, natural),
    m.Agreed: st.builds(m.Agreed, natural, natural, text, st.booleans()),
    m.Withdrawn: st.builds(m.Withdrawn, natural, cause),
    m.WishOver: st.builds(m.WishOver, natural, text, step, st.none() | cause),
}


def over_the_wire(envelope: Any) -> Any:
    if isinstance(envelope, m.AgentEnvelope):
        sent = convert.agent_to_proto(envelope).SerializeToString()
        return convert.agent_from_proto(pb.AgentEnvelope.FromString(sent))
    sent = convert.CoordinatorWire().encode(envelope)
    return convert.coordinator_from_proto(pb.CoordinatorEnvelope.FromString(sent))


def an_agent_says(message: Any, worker: int = 1) -> m.AgentEnvelope:
    return m.AgentEnvelope(m.Sender("job", 7, worker, "first"), message)


def test_every_message_of_the_protocol_is_tried_here_and_has_a_place_on_the_wire() -> None:
    assert set(AGENT) == set(m.AgentMessage.__args__) == {kind.cls for kind in agent_messages.KINDS}
    assert set(COORDINATOR) == set(m.CoordinatorMessage.__args__) == {kind.cls for kind in coordinator_messages.KINDS}
    assert {kind.field for kind in agent_messages.KINDS} | {"fragment"} == {
        field.name for field in pb.AgentEnvelope.DESCRIPTOR.oneofs_by_name["message"].fields
    }
    assert {kind.field for kind in coordinator_messages.KINDS} == {
        field.name for field in pb.CoordinatorEnvelope.DESCRIPTOR.oneofs_by_name["message"].fields
    }


@pytest.mark.parametrize("kind", AGENT, ids=lambda kind: kind.__name__)
def test_what_an_agent_says_arrives_as_it_was_said(kind: type) -> None:
    @settings(max_examples=50, deadline=None)
    @given(envelope=st.builds(m.AgentEnvelope, sender, AGENT[kind]))
    def arrives(envelope: m.AgentEnvelope) -> None:
        assert over_the_wire(envelope) == envelope

    arrives()


@pytest.mark.parametrize("kind", COORDINATOR, ids=lambda kind: kind.__name__)
def test_what_the_coordinator_says_arrives_as_it_was_said(kind: type) -> None:
    @settings(max_examples=50, deadline=None)
    @given(envelope=st.builds(m.CoordinatorEnvelope, sender, COORDINATOR[kind]))
    def arrives(envelope: m.CoordinatorEnvelope) -> None:
        assert over_the_wire(envelope) == envelope

    arrives()


def test_a_loss_that_diverged_does_not_stop_a_save() -> None:
    said = m.Announce(1, 5, "ckpt-5", "digest", 0, {"loss": math.nan, "bound": -math.inf})
    arrived = over_the_wire(an_agent_says(said)).message
    assert math.isnan(arrived.metrics["loss"])
    assert arrived.metrics["bound"] == -math.inf


def test_a_share_of_a_hundred_thousand_tensors_arrives() -> None:
    entries = tuple(Entry(f"layer-{i}/kernel", 1, (128, 256), i * 131_072, 131_072, i) for i in range(100_000))
    said = an_agent_says(m.Written(3, 1, Shard(1, "7/handle", 100_000 * 131_072, entries)))
    assert over_the_wire(said) == said


def test_a_report_of_a_failure_gets_through_whatever_its_text() -> None:
    said = an_agent_says(m.Failed(1, 1, Cause("WriteFailed", "disk \udcff " + "x" * 1_000_000)))
    arrived = over_the_wire(said).message.cause.message
    assert arrived.startswith("disk \\udcff xxx")
    assert len(arrived) == TEXT_CHARS_MAX


SENDER = pb.Sender(job="job", generation=7, worker=1, incarnation="first")
CAUSE = pb.Cause(kind="WriteFailed", message="no")
MALFORMED_AGENT = {
    "holds no message": pb.AgentEnvelope(sender=SENDER),
    "sender.job is empty": pb.AgentEnvelope(heartbeat=pb.Heartbeat()),
    "sender.worker is -1": pb.AgentEnvelope(
        sender=pb.Sender(job="job", worker=-1, incarnation="first"), heartbeat=pb.Heartbeat()
    ),
    "sender.incarnation is empty": pb.AgentEnvelope(sender=pb.Sender(job="job"), heartbeat=pb.Heartbeat()),
    "sender.generation is -2": pb.AgentEnvelope(
        sender=pb.Sender(job="job", generation=-2, incarnation="first"), heartbeat=pb.Heartbeat()
    ),
    "save_wanted.within_s is nan": pb.AgentEnvelope(
        sender=SENDER, save_wanted=pb.SaveWanted(number=1, within_s=math.nan)
    ),
    "heartbeat.step is -2": pb.AgentEnvelope(sender=SENDER, heartbeat=pb.Heartbeat(step=-2)),
    "join.world_size is 0": pb.AgentEnvelope(sender=SENDER, join=pb.Join(probe="key")),
    "join.host has 65537": pb.AgentEnvelope(sender=SENDER, join=pb.Join(world_size=1, host="x" * 65_537)),
    "announce.ordinal is 0": pb.AgentEnvelope(sender=SENDER, announce=pb.Announce(name="n", digest="d")),
    "announce.name is empty": pb.AgentEnvelope(sender=SENDER, announce=pb.Announce(ordinal=1, digest="d")),
    "announce.name has 16385": pb.AgentEnvelope(
        sender=SENDER, announce=pb.Announce(ordinal=1, digest="d", name="n" * (NAME_CHARS_MAX + 1))
    ),
    "a name in announce.metrics is empty": pb.AgentEnvelope(
        sender=SENDER, announce=pb.Announce(ordinal=1, name="n", digest="d", metrics={"": 1.0})
    ),
    "frozen.handle is empty": pb.AgentEnvelope(
        sender=SENDER, written=pb.Written(shard=pb.Shard(frozen=pb.DataFile(size_bytes=1)))
    ),
    "frozen.size_bytes is -1": pb.AgentEnvelope(
        sender=SENDER, written=pb.Written(shard=pb.Shard(frozen=pb.DataFile(handle="h", size_bytes=-1)))
    ),
    "shard.handle is empty": pb.AgentEnvelope(sender=SENDER, written=pb.Written(shard=pb.Shard(size_bytes=1))),
    "shard.size_bytes is -1": pb.AgentEnvelope(
        sender=SENDER, written=pb.Written(shard=pb.Shard(handle="h", size_bytes=-1))
    ),
    "entry.name is empty": pb.AgentEnvelope(
        sender=SENDER, written=pb.Written(shard=pb.Shard(handle="h", entries=[pb.Entry()]))
    ),
    "entry.shape holds -4": pb.AgentEnvelope(
        sender=SENDER, written=pb.Written(shard=pb.Shard(handle="h", entries=[pb.Entry(name="t", shape=[3, -4])]))
    ),
    "entry.shape has 255": pb.AgentEnvelope(
        sender=SENDER, written=pb.Written(shard=pb.Shard(handle="h", entries=[pb.Entry(name="t", shape=[1] * 255)]))
    ),
    "part of 't' has 0 extents": pb.AgentEnvelope(
        sender=SENDER,
        written=pb.Written(shard=pb.Shard(handle="h", entries=[pb.Entry(name="t", shape=[3], part=pb.Slice())])),
    ),
    "extent.length is -1": pb.AgentEnvelope(
        sender=SENDER,
        described=pb.Described(
            specs=[pb.TensorSpec(name="t", shape=[3], part=pb.Slice(extents=[pb.Extent(length=-1)]))]
        ),
    ),
    "cause.kind is empty": pb.AgentEnvelope(sender=SENDER, failed=pb.Failed(round=1)),
    "cause.worker is -3": pb.AgentEnvelope(sender=SENDER, leave=pb.Leave(cause=pb.Cause(kind="Fenced", worker=-3))),
}
MALFORMED_COORDINATOR = {
    "holds no message": pb.CoordinatorEnvelope(receiver=SENDER),
    "sender.job is empty": pb.CoordinatorEnvelope(alive=pb.Alive()),
    "the length of decided.own_bytes is 0": pb.CoordinatorEnvelope(receiver=SENDER, decided=pb.Decided(round=1)),
    "decided.weights: 1 for 2 workers": pb.CoordinatorEnvelope(
        receiver=SENDER, decided=pb.Decided(own_bytes=[3, 4], weights=[1])
    ),
    "decided.weights: 1 for 1 workers": pb.CoordinatorEnvelope(
        receiver=SENDER, decided=pb.Decided(own_bytes=[3], weights=[0])
    ),
    "decided.own_bytes holds -1": pb.CoordinatorEnvelope(receiver=SENDER, decided=pb.Decided(own_bytes=[3, -1])),
    "split.writers is 0": pb.CoordinatorEnvelope(
        receiver=SENDER, decided=pb.Decided(own_bytes=[3], splits=[pb.Split(share=0)])
    ),
    "verify.part is 2 of 2": pb.CoordinatorEnvelope(receiver=SENDER, verify=pb.Verify(name="n", part=2, parts=2)),
    "restore_decided.name is empty": pb.CoordinatorEnvelope(
        receiver=SENDER, restore_decided=pb.RestoreDecided(name="")
    ),
    "checkpoint.timestamp is nan": pb.CoordinatorEnvelope(
        receiver=SENDER, committed=pb.Committed(checkpoint=pb.Checkpoint(name="n", timestamp=math.nan))
    ),
    "file.size_bytes is -5": pb.CoordinatorEnvelope(
        receiver=SENDER,
        welcome=pb.Welcome(checkpoints=[pb.Checkpoint(name="n", files=[pb.FileRecord(name="f", size_bytes=-5)])]),
    ),
}


@pytest.mark.parametrize("complaint", MALFORMED_AGENT)
def test_the_coordinator_is_told_what_is_wrong_with_a_message(complaint: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        convert.agent_from_proto(MALFORMED_AGENT[complaint])
    assert complaint in str(caught.value)


@pytest.mark.parametrize("complaint", MALFORMED_COORDINATOR)
def test_the_agent_is_told_what_is_wrong_with_a_message(complaint: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        convert.coordinator_from_proto(MALFORMED_COORDINATOR[complaint])
    assert complaint in str(caught.value)


@settings(max_examples=300, deadline=None)
@given(
    noise=st.binary(max_size=200), prefix=st.sampled_from([b"", pb.AgentEnvelope(sender=SENDER).SerializeToString()])
)
def test_noise_gives_a_value_or_a_malformed_message_and_nothing_else(noise: bytes, prefix: bytes) -> None:
    try:
        parsed = pb.AgentEnvelope.FromString(prefix + noise)
    except DecodeError:
        return
    with contextlib.suppress(MalformedMessage):
        assert isinstance(convert.agent_from_proto(parsed), m.AgentEnvelope)


@pytest.mark.parametrize(
    "message",
    [m.Heartbeat(2**63), m.Heartbeat("five"), m.Join(1, "host", 1, "bad \udcff"), m.Written(1, 1, None), "text"],
)
def test_what_does_not_fit_the_wire_is_refused_where_it_is_said(message: Any) -> None:
    with pytest.raises(MalformedMessage):
        convert.agent_to_proto(an_agent_says(message))


def test_a_message_for_the_other_direction_is_refused_where_it_is_said() -> None:
    with pytest.raises(MalformedMessage):
        convert.agent_to_proto(an_agent_says(m.Alive()))


def test_a_message_above_the_limit_is_refused_where_it_is_said() -> None:
    big = TensorSpec("n" * 16_000, 1, (), 4)
    said = m.Described(1, (big,) * 4_300)
    with pytest.raises(MalformedMessage, match="bytes: at most 67108864 can be sent"):
        convert.agent_to_proto(an_agent_says(said))
    assert over_the_wire(an_agent_says(replace(said, specs=said.specs[:4_000])))


def test_what_is_said_to_many_is_converted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = convert.CoordinatorWire()
    kind = convert._BY_CLASS[m.Decided]
    converted: list[m.Decided] = []
    counted = replace(kind, to=lambda message: (converted.append(message), kind.to(message))[1])
    monkeypatch.setitem(convert._BY_CLASS, m.Decided, counted)
    decided, other = m.Decided(1, 1, 100, (1, 2, 3)), m.Decided(2, 1, 100, (1, 2, 3))
    for message, worker in ((decided, 0), (decided, 1), (other, 1), (decided, 2)):
        envelope = m.CoordinatorEnvelope(m.Sender("job", 7, worker, "first"), message)
        whole = wire.encode(envelope)
        assert convert.coordinator_from_proto(pb.CoordinatorEnvelope.FromString(whole)) == envelope
    assert [id(message) for message in converted] == [id(message) for message in (decided, other, decided)]
