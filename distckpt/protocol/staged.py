"""How the staged files of a worker's share are called, so that nobody can hand in another's, or have it discarded."""

from __future__ import annotations

from distckpt.protocol.messages import Sender, Written

STATE = "-state"
STATE_INDEX = "-state-index"
FROZEN = "-frozen"


def staged_name(writer: Sender, number: int, share: int) -> str:
    """The name, within its generation, of the file with what `writer` writes of `share` in round `number`.

    The files of its own state have the same name, followed by STATE and STATE_INDEX; the one with what did not change,
    followed by FROZEN.
    """
    return f"{number:08d}-share-{share:05d}-worker-{writer.worker:05d}-{writer.incarnation}"


def foreign_handle(sender: Sender, written: Written) -> str | None:
    """The first handle in `written` that is not of the file which `sender` itself staged for that; None if all are.

    A handle is `GENERATION/NAME` (storage/keys.py).
    """
    own = f"{sender.generation}/{staged_name(sender, written.round, written.share)}"
    shard, state, frozen = written.shard, written.shard.state, written.shard.frozen
    handed_in = [(shard.handle, own)] if shard.handle else []
    if frozen is not None:
        handed_in.append((frozen.handle, own + FROZEN))
    if state is not None:
        handed_in += [(state.data_handle, own + STATE), (state.index_handle, own + STATE_INDEX)]
    return next((handle for handle, expected in handed_in if handle != expected), None)
