"""A picture survives its way as JSON, also to a reader of another version."""

from __future__ import annotations

import json

import pytest

from distckpt.errors import CorruptData
from distckpt.observe.picture import Picture, decode, encode


def test_what_is_encoded_comes_back(saving: Picture) -> None:
    assert decode(encode(saving), "the job") == saving
    assert saving.in_flight is not None
    assert saving.in_flight.step == 200


def test_fields_of_a_later_version_are_passed_over_and_missing_ones_have_their_default(saving: Picture) -> None:
    value = json.loads(encode(saving))
    value["weather"] = "fine"
    del value["troubles"]
    read = decode(json.dumps(value).encode(), "the job")
    assert read.troubles == ()
    assert read.saves == saving.saves


DEEP = b'{"weather": ' + b"[" * 100_000
NO_PICTURES = [b"", b"\xff", b"[]", b'{"source": "dreamt", "directory": "/run", "at": 1}', b"{}", DEEP]


@pytest.mark.parametrize("data", NO_PICTURES, ids=range(len(NO_PICTURES)))
def test_what_is_no_picture_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(CorruptData, match="the job: is no picture of a job"):
        decode(data, "the job")
