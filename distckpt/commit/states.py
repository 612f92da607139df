"""What only single workers have (`worker_state=`), in a commit: each a TensorFlow checkpoint of its own, beside the one
of all, whose manifest lists them. So TensorFlow's restore of the one never meets the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from distckpt.bundle.names import data_file, index_file, state_name
from distckpt.errors import WriteFailed
from distckpt.model import FileRecord, Shard, StagedState, StateFiles, WorkerStates
from distckpt.storage.interface import Storage


def states_of(name: str, shards: Sequence[Shard]) -> WorkerStates | None:
    """The states that came with the shards of checkpoint `name`; None where no worker has one."""
    staged = {shard.worker: shard.state for shard in shards if shard.state is not None}
    if not staged:
        return None
    world_size = max(state.world_size for state in staged.values())
    return WorkerStates(world_size, tuple(_files(name, worker, staged[worker]) for worker in sorted(staged)))


def state_records(states: WorkerStates | None) -> Iterator[FileRecord]:
    """The files, each index after its data."""
    for each in states.files if states else ():
        yield each.data
        yield each.index


def check_staged(storage: Storage, shard: Shard, step: int) -> None:
    """Raises WriteFailed unless the files of `shard`'s state are as long as its worker says."""
    state = shard.state
    if state is None:
        return
    for handle, told in ((state.data_handle, state.data_bytes), (state.index_handle, state.index_bytes)):
        size = storage.staged_size(handle)
        if size != told:
            text = f"step {step}: worker {shard.worker} wrote {told} bytes of its state, {handle} has {size}"
            raise WriteFailed(text, shard.worker)


def _files(name: str, worker: int, staged: StagedState) -> StateFiles:
    prefix = state_name(name, worker, staged.world_size)
    return StateFiles(
        worker,
        prefix,
        FileRecord(data_file(prefix, 0, 1), staged.data_bytes, staged.data_handle),
        FileRecord(index_file(prefix), staged.index_bytes, staged.index_handle),
        staged.sha256,
    )
