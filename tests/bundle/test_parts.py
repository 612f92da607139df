"""Parts of a checkpoint as streams: what is read from one and written into another of the same shape is the same."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from distckpt.bundle.parts import PartStream


@given(sizes=st.lists(st.integers(0, 9)), chunk=st.integers(1, 12))
def test_what_is_read_in_chunks_and_written_in_chunks_arrives(sizes: list[int], chunk: int) -> None:
    content = np.arange(sum(sizes), dtype=np.uint8)
    theirs = [room.copy() for room in np.split(content, np.cumsum(sizes)[:-1])] if sizes else []
    ours = [np.full_like(room, 255) for room in theirs]
    source, target = PartStream(theirs), PartStream(ours)
    assert source.size_bytes == target.size_bytes == content.size
    for start in range(0, content.size, chunk):
        buffer = np.full(chunk, 254, np.uint8)
        source.read(start, buffer)
        assert list(buffer[content.size - start :]) == [254] * max(0, chunk - content.size + start), "left alone"
        target.write(start, buffer)
    assert np.array_equal(np.concatenate([*ours, content[:0]]), content)


def test_beyond_the_end_there_is_nothing() -> None:
    room = np.zeros(4, np.uint8)
    stream = PartStream([room])
    stream.write(4, np.ones(8, np.uint8))
    assert not room.any()
    assert PartStream([]).size_bytes == 0
