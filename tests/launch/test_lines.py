"""Output is cut into lines and nothing of it is lost."""

from hypothesis import given
from hypothesis import strategies as st

from distckpt.launch.lines import LINE_BYTES_MAX, LineCutter


@given(st.lists(st.binary(max_size=20)))
def test_nothing_is_lost_wherever_the_reads_end(chunks: list[bytes]) -> None:
    cutter = LineCutter()
    lines = [line for chunk in chunks for line in cutter.feed(chunk)]
    lines += cutter.rest()
    whole = b"".join(chunks)
    assert b"\n".join(lines) == whole.removesuffix(b"\n")
    assert not any(b"\n" in line for line in lines)


def test_the_last_line_needs_no_newline() -> None:
    cutter = LineCutter()
    assert cutter.feed(b"one\ntw") == [b"one"]
    assert cutter.feed(b"o") == []
    assert cutter.rest() == [b"two"]
    assert cutter.rest() == []


def test_a_line_without_end_is_cut_and_does_not_fill_the_memory() -> None:
    cutter = LineCutter()
    chunk = b"x" * (LINE_BYTES_MAX // 4)
    lines = [line for _ in range(8) for line in cutter.feed(chunk)]
    assert [len(line) for line in lines] == [LINE_BYTES_MAX, LINE_BYTES_MAX]
    assert cutter.rest() == []


def test_empty_lines_stay() -> None:
    assert LineCutter().feed(b"\n\na\n") == [b"", b"", b"a"]
