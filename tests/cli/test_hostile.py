"""What files and workers say is printed, and nothing of it acts on the terminal or ends the command."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from distckpt.cli.screen import standing
from distckpt.cli.text import local_time, print_lines
from distckpt.observe.picture import CheckpointView, Picture, TroubleView, WorkerView


@pytest.mark.parametrize("text", ["\x1b]0;owned\x07", "\x1b[2J", "a\rb", "\u202egpj", "\udcff\ud800", "\x9b2J", "\0"])
def test_control_characters_are_printed_as_what_they_are(capsysbinary: pytest.CaptureFixture[bytes], text: str) -> None:
    print_lines([f"layer/{text}/kernel", "a line\nand a second"])
    printed = capsysbinary.readouterr().out
    assert printed == f"layer/{text.encode('unicode_escape').decode()}/kernel\na line\nand a second\n".encode()


@pytest.mark.parametrize("timestamp", [1e300, -1e300, float("nan"), float("inf")])
def test_a_time_that_no_calendar_has_is_printed_as_a_number(timestamp: float) -> None:
    assert local_time(timestamp) == f"{timestamp:g} s"


def test_the_screen_obeys_nothing_that_a_picture_says() -> None:
    odd = "\x1b[2J[red]x"
    picture = Picture(
        source="live",
        directory=odd,
        at=1.0,
        note=odd,
        job=odd,
        world_size=1,
        troubles=(TroubleView(0.5, odd, odd),),
        workers=(WorkerView(0, "present", address=odd),),
        checkpoints=(CheckpointView(odd, 1, 0.5, 1, 9, kept=(odd,)),),
    )
    shown = io.StringIO()
    Console(file=shown, width=200, force_terminal=False).print(standing(picture, 40))
    assert "\x1b" not in shown.getvalue()
    assert "\\x1b[2J[red]x" in shown.getvalue()
