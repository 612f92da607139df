"""Recovery by hand: a rehearsal tells what is then done, whatever operation the chief died at, and changes nothing."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from distckpt.commit.repair import Action, rehearse, repair
from distckpt.journal.liveness import Pulse
from distckpt.journal.log import Journal
from distckpt.storage.memory import MemoryStorage

DIRECTORY = "/job"


def left_by(storage: MemoryStorage) -> None:
    """Says for the dead chief that it has left: how long others wait for it is not the question here."""
    begun = Journal.open(storage).state.begun
    assert begun is not None
    Pulse(storage, begun).close()


def contents(storage: MemoryStorage) -> Any:
    return {key: storage.read(key) for key in storage.keys("")}, storage.staged()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_what_is_rehearsed_is_what_is_done_whatever_the_chief_died_at(
    moment: str, faulty: Any, new_chief: Any, values_in: Any
) -> None:
    verbs = set()
    for number in count():
        storage = MemoryStorage()
        chief = new_chief(storage, keep=1)
        chief.commit(1, 1.0)
        broken = faulty.FaultyStorage(storage, **{moment: faulty.at(number, faulty.Crash())})
        chief.storage = chief.committer.storage = chief.journal._storage = broken
        try:
            chief.commit(2, 2.0)
            acknowledged = True
        except faulty.Crash:
            acknowledged = False
        left_by(storage)
        before = contents(storage)
        told = rehearse(storage, DIRECTORY)
        assert contents(storage) == before
        assert repair(storage, DIRECTORY) == told
        assert values_in(storage) in ({1: 1.0}, {2: 2.0}, {1: 1.0, 2: 2.0})
        assert rehearse(storage, DIRECTORY) == (), "nothing is left to be done"
        verbs.update(action.verb for action in told)
        if acknowledged:
            assert told == ()
            break
    assert verbs == {"publish", "rewrite", "delete", "discard"}


def test_a_checkpoint_whose_file_is_gone_is_set_aside_with_the_reason(new_chief: Any) -> None:
    storage = MemoryStorage()
    chief = new_chief(storage)
    chief.commit(1, 1.0)
    chief.commit(2, 2.0)
    data = chief.journal.state.live[1].files[0]
    storage.discard(data.handle)
    storage.delete(data.name)
    left_by(storage)
    told = rehearse(storage, DIRECTORY)
    assert told[0].verb == "set aside"
    assert told[0].name == "ckpt-2"
    assert data.name in told[0].detail
    assert [(each.verb, each.name) for each in told[1:]] == [
        ("write", ".distckpt/quarantine/ckpt-2.index"),
        ("rewrite", "checkpoint"),
        ("delete", "ckpt-2.index"),
    ]
    assert repair(storage, DIRECTORY) == told


def test_what_a_sleeper_moved_is_put_back(new_chief: Any, values_in: Any) -> None:
    storage = MemoryStorage()
    chief = new_chief(storage)
    chief.commit(1, 1.0)
    (name,) = {each.files[0].name for each in chief.journal.state.live}
    storage.put(name, b"of somebody else")
    left_by(storage)
    (told,) = rehearse(storage, DIRECTORY)
    assert told == Action("publish", name, 400)
    assert repair(storage, DIRECTORY) == (told,)
    assert values_in(storage) == {1: 1.0}
