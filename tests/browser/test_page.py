"""The dashboard in a real browser: what it draws, what it does not let in, and nothing that its policy forbids.

DISTCKPT_SCREENSHOTS=DIR keeps what was seen, for people to look at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from distckpt.observe.dashboard import Dashboard
from distckpt.observe.picture import PartView, Picture

Serve = Callable[[Picture], Dashboard]
Scenes = dict[str, Picture]


def opened(dashboard: Dashboard) -> str:
    return f"{dashboard.url}#{dashboard.token}"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_save_in_flight_shows_every_worker_and_every_phase(
    dark: bool,  # noqa: FBT001 - pytest hands it in by name
    serve: Serve,
    browser: Any,
    scenes: Scenes,
) -> None:
    seen = browser.look(opened(serve(scenes["saving"])), f"saving-{'dark' if dark else 'light'}", dark=dark)
    assert "8 of 8" in seen
    assert "12.0 MB of 128.0 MB" in seen
    assert seen.count('data-round="') == 13
    assert "ckpt-6500: writing" in seen
    assert seen.count('class="write"') >= 8 + 13
    assert "being read by pid 812 on eval-1" in seen
    assert '<polyline class="mean"' in seen


def test_a_failure_names_its_cause_and_its_worker(serve: Serve, browser: Any, scenes: Scenes) -> None:
    seen = browser.look(opened(serve(scenes["failed"])), "failed")
    assert "7 of 8" in seen
    assert "lost for 9.2 s" in seen
    assert "failed: WorkerLost: save of step 6500: worker 3" in seen
    assert "4,096 bytes differ" in seen


def test_a_save_that_went_on_without_workers_shows_where_and_why_there_was_one(
    serve: Serve, browser: Any, scenes: Scenes
) -> None:
    save = scenes["saving"].saves[0]
    late = replace(save.parts[3], written_at=None, given_up_at=save.opened_at + 1.6)
    absent = PartView(5, given_up_at=save.opened_at + 0.2)
    parts = (*save.parts[:3], late, save.parts[4], absent, *save.parts[6:])
    picture = replace(scenes["saving"], saves=(replace(save, parts=parts, reason="SIGTERM to worker 0"),))
    seen = browser.look(opened(serve(picture)), "without")
    assert "because of SIGTERM to worker 0" in seen
    assert "did not come: others wrote its share" in seen
    assert "worker 3 was done without from here on" in seen


def test_a_job_that_has_just_begun_and_one_that_is_over_have_their_words(
    serve: Serve, browser: Any, scenes: Scenes
) -> None:
    assert "No save yet in this start of the job." in browser.look(opened(serve(scenes["empty"])), "empty")
    over = browser.look(opened(serve(scenes["ended"])), "ended")
    assert "from the journal" in over
    assert "has ended" in over
    assert "ckpt-6000" in over


def test_what_comes_from_the_job_is_text_and_never_markup(serve: Serve, browser: Any, scenes: Scenes) -> None:
    evil = "<img src=x onerror=document.title=1>"
    trouble = replace(scenes["failed"].troubles[0], message=evil)
    worker = replace(scenes["saving"].workers[0], address=evil)
    seen = browser.look(
        opened(serve(replace(scenes["saving"], job=evil, troubles=(trouble,), workers=(worker,)))), "evil"
    )
    assert "<img" not in seen
    assert seen.count("&lt;img") >= 3


def test_without_the_token_nothing_of_the_job_is_shown(serve: Serve, browser: Any, scenes: Scenes) -> None:
    for address in (serve(scenes["saving"]).url, f"{serve(scenes['saving']).url}#wrong"):
        seen = browser.look(address, "door", refused=True)
        assert '<form id="door">' in seen
        assert '<main id="main" hidden' in seen
        assert "digits" not in seen
        assert "10.0.0" not in seen
