"""The main stories, word for word. DISTCKPT_UPDATE_TRANSCRIPTS=1 writes them anew: review the difference."""

import os
from pathlib import Path

import pytest
from staged.transcript import play

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_the_story_is_told_as_written(path: Path) -> None:
    written = path.read_text()
    played = play(written)
    if os.environ.get("DISTCKPT_UPDATE_TRANSCRIPTS"):
        path.write_text(played)
        return
    assert played == written


def test_there_are_stories() -> None:
    assert len(TRANSCRIPTS) >= 8
