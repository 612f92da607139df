"""What a worker that is not the chief captures is enough for the whole checkpoint, and it writes only its own share."""

from __future__ import annotations

from typing import Any

import pytest
import tensorflow as tf

from distckpt.errors import UnsupportedState
from distckpt.model import Place
from distckpt.tensors.source import Source


class Counter(tf.train.experimental.PythonState):  # type: ignore[misc]  # TensorFlow has no types
    """State that is no variable."""

    def __init__(self) -> None:
        self.count = 7

    def serialize(self) -> str:
        return str(self.count)

    def deserialize(self, text: str) -> None:
        self.count = int(text)


def checkpoint() -> Any:
    """Two variables, Python state, an iterator; the object graph comes with every checkpoint.

    The iterator does not fetch ahead, as TensorFlow makes it do unasked: its state is the same when it is asked again.
    """
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False
    iterator = iter(tf.data.Dataset.range(5).with_options(options))
    next(iterator)
    return tf.train.Checkpoint(a=tf.Variable([1.0, 2.0]), b=tf.Variable("text"), counter=Counter(), iterator=iterator)


def bytes_of(payloads: Any) -> dict[str, bytes]:
    return {payload.name: bytes(memoryview(payload.data).cast("B")) for payload in payloads}


def test_a_survivor_has_everything_that_the_chief_would_have_written() -> None:
    tracked = checkpoint()
    chief = Source(tracked, Place(0, 2)).capture()
    other = Source(tracked, Place(1, 2)).capture()
    assert bytes_of(other.everything()) == bytes_of(chief.everything())
    assert len(other.everything()) >= 5


def test_nothing_of_it_is_written_as_long_as_the_chief_lives() -> None:
    other = Source(checkpoint(), Place(1, 2)).capture()
    assert other.payloads([], own=True) == []
    assert other.own_bytes == 0


def test_what_a_survivor_cannot_take_does_not_cost_the_save_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Counter) -> str:
        raise ValueError("on the chief alone")

    tracked = checkpoint()
    source = Source(tracked, Place(1, 2))
    source.layout()
    monkeypatch.setattr(Counter, "serialize", refuse)
    snapshot = source.capture()
    assert snapshot.own_bytes == 0
    with pytest.raises(UnsupportedState, match="on the chief alone"):
        snapshot.everything()


def test_it_does_not_change_with_the_training_and_is_let_go() -> None:
    tracked = checkpoint()
    snapshot = Source(tracked, Place(1, 2)).capture()
    before = bytes_of(snapshot.everything())
    tracked.a.assign([9.0, 9.0])
    tracked.counter.count = 8
    assert bytes_of(snapshot.everything()) == before
    snapshot.release()
    assert snapshot.payloads([], own=True) == []
