from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distckpt.bundle.statefile import CheckpointState, format_state, parse_state
from distckpt.errors import CorruptData

paths = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
stamps = st.floats(allow_nan=False)


@given(
    latest=paths,
    others=st.lists(st.tuples(paths, stamps), max_size=5),
    stamped=st.booleans(),
    preserved=st.none() | stamps.filter(bool),
)
def test_a_state_is_parsed_as_it_was_formatted(
    latest: str, others: list[tuple[str, float]], *, stamped: bool, preserved: float | None
) -> None:
    state = CheckpointState(
        latest,
        tuple(path for path, _ in others),
        tuple(stamp for _, stamp in others) if stamped else (),
        preserved,
    )
    assert parse_state(format_state(state)) == state


def test_fields_of_a_later_tensorflow_are_ignored() -> None:
    text = b'model_checkpoint_path: "a"\nnew_field: 7\nnew_message { x: "y" }\n'
    assert parse_state(text) == CheckpointState("a")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b'model_checkpoint_path: "a"\nall_model_checkpoint_paths: 12\n', "checkpoint: line 2"),
        (b'model_checkpoint_path: "a\n', "line 1"),
        (b"", "model_checkpoint_path"),
        (b'model_checkpoint_path: ""\n', "model_checkpoint_path"),
        (b"\xff\xfe", "not text"),
        (b'model_checkpoint_path: "\\377"\n', "checkpoint: "),
        (b"a {" * 5000, "checkpoint: "),
        (
            b'model_checkpoint_path: "a"\nall_model_checkpoint_timestamps: 1\nall_model_checkpoint_timestamps: 2\n',
            "2 timestamps for 0",
        ),
    ],
)
def test_a_state_file_that_is_garbage_is_refused_with_the_place(text: bytes, complaint: str) -> None:
    with pytest.raises(CorruptData, match=complaint):
        parse_state(text)


@given(st.binary(max_size=100) | st.text(alphabet='modelcheckpoint_path:"{}<>\\\n ', max_size=60).map(str.encode))
def test_any_bytes_are_a_state_or_refused(text: bytes) -> None:
    try:
        state = parse_state(text)
    except CorruptData:
        return
    assert state.model_checkpoint_path
