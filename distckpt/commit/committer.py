"""Commits rounds: from sealed shards to a checkpoint that exists, is visible, and has retired its elders.

The order is what makes it safe: shards are durable before the index names them; index and manifest are durable before
the journal's COMMIT names them; after that record the checkpoint exists, and everything visible follows from the
journal (`publication`), by this process or by the next generation (`recovery`). One thread calls; nothing here waits
but for storage.

Freeing the space of what was retired takes a file system as long as writing it took, or half of that (38 ms for 128 MiB
on a tmpfs), so a commit is announced before: when the new names stand and the retired ones are gone.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from distckpt.bundle.coverage import check_coverage
from distckpt.bundle.index import encode_index
from distckpt.bundle.names import data_file, index_file
from distckpt.commit.manifest import encode_manifest, manifest_file
from distckpt.commit.publication import heal_loudly, hide, publish, remove, unpublish
from distckpt.commit.removal import Leased, remove_retired
from distckpt.commit.statefile import write_state
from distckpt.commit.states import check_staged, state_records, states_of
from distckpt.errors import ConfigurationError, DistckptError, Fenced, OutcomeUnknown, StorageError, WriteFailed
from distckpt.journal.leases import nobody
from distckpt.journal.log import Journal
from distckpt.journal.records import CommitRecord, PreserveRecord, QuarantineRecord, RetireRecord
from distckpt.journal.state import JournalState
from distckpt.model import Checkpoint, DataFile, FileRecord, Manifest, TensorSpec
from distckpt.protocol.effects import Commit
from distckpt.protocol.retention import NO_PRESERVATION, Policy, Preservation, select_retired
from distckpt.storage.interface import Storage
from distckpt.storage.sealing import sealed

log = logging.getLogger("distckpt.commit")

_Written = tuple[int, DataFile]
"""A data file, and the worker that staged it."""

Done = tuple[Checkpoint, tuple[str, ...], tuple[str, ...]]
"""The checkpoint, the names that retention removed, and those that it left for good."""

HEALED_MAX = 16
"""So many of the newest checkpoints are looked after at each commit; all of them at each start."""


@dataclass(slots=True)
class Committer:
    """Commits for one generation. `last_preserved` is when the last preserved checkpoint was committed; it goes into
    TensorFlow's state file. `clock` and it are in seconds since the epoch.
    """

    storage: Storage
    journal: Journal
    job: str
    policy: Policy
    last_preserved: float
    clock: Callable[[], float] = time.time
    leased: Leased = nobody
    preservation: Preservation = NO_PRESERVATION
    _opened_at: float = field(init=False)
    _removed: set[Checkpoint] = field(init=False)  # those of the journal's retired that need no more care

    def __post_init__(self) -> None:
        self._removed = set(self.journal.state.retired)  # recovery has seen to these
        self._opened_at = self.clock()

    def commit(
        self,
        request: Commit,
        expected: Iterable[TensorSpec] | None = None,
        announce: Callable[[Done], None] = lambda _: None,
    ) -> Done:
        """Commits; calls `announce` as soon as everything visible is right, and returns the same when all is done.

        `expected`: the tensors that all workers hold, each of which must be in the shards; None: unknown.

        Raises Fenced; OutcomeUnknown where the record may stand, or stands and could not be made visible; any other
        error means that nothing was committed (what was staged for the index is gone, the shards are the caller's to
        discard). Once announced, what goes wrong is told in the log, and tried again after the next commit.
        """
        files = tuple((shard.worker, file) for shard in request.shards for file in shard.data_files)
        self._check_shards(files, request.step, expected)
        for shard in request.shards:
            check_staged(self.storage, shard, request.step)
        checkpoint = self._stage(request, files)
        replaced = [each for each in self.journal.state.live if each.name == request.name]
        self._append(checkpoint)
        try:
            publish(self.storage, checkpoint)
        except StorageError as error:
            raise OutcomeUnknown(
                f"{checkpoint.name} is committed in the journal but not visible under its name ({error}); the next "
                "start of the job finishes it"
            ) from error
        before = self.journal.state
        retained = self._stands_anyway(self._retain)
        done = (checkpoint, *self._left_since(before))
        announce(done)
        if retained:
            self._stands_anyway(lambda: self._clean_up(replaced))
        return done

    def retire(self) -> None:
        """Applies retention.

        Raises Fenced, OutcomeUnknown, StorageError: what was not done is done by the next call, or the next generation.
        """
        self._retain()
        self._clean_up()

    def _append(self, checkpoint: Checkpoint) -> None:
        try:
            self.journal.append(CommitRecord(checkpoint))
        except OutcomeUnknown:
            raise
        except (DistckptError, ValueError):  # a certain no; after anything else the record may stand, and need these
            for file in checkpoint.files[-2:]:
                self.storage.discard(file.handle)
            raise

    def _retain(self) -> None:
        """Decides what leaves, and takes its visible names away."""
        active = self._as_tensorflow_sees(self.journal.state.active)
        leaving = self._leaving(active)
        stamps = {each.name: each.timestamp for each in active}
        kept, last = self.preservation.preserved([(name, stamps[name]) for name in leaving], self.last_preserved)
        names = tuple(name for name in leaving if name not in kept)
        if kept:
            self.journal.append(PreserveRecord(kept))
            self.last_preserved = last
        if names:
            self.journal.append(RetireRecord(names))
        self._write_state()
        due = self._due()
        held = self.leased(due) if due else ()
        for checkpoint in due:
            if checkpoint.name not in held:
                unpublish(self.storage, checkpoint)

    def _clean_up(self, replaced: Sequence[Checkpoint] = ()) -> None:
        """Frees the space of what was retired, and of `replaced`, whose names are another's now."""
        self._remove_retired()
        names = {file.name for each in self.journal.state.live for file in each.files} if replaced else set()
        for checkpoint in replaced:
            remove(self.storage, checkpoint, names)
        self._heal()
        self.journal.compact()

    def _leaving(self, active: Sequence[Checkpoint]) -> tuple[str, ...]:
        leased = self.leased(active)
        try:
            return select_retired(active, self.policy, leased)
        except ConfigurationError:
            log.exception("nothing is removed")
            return ()

    def quarantine(self, name: str, reason: str) -> None:
        """Takes a corrupt checkpoint out of the list and of TensorFlow's sight. Its data files stay where they are."""
        checkpoint = next(each for each in self.journal.state.live if each.name == name)
        self.journal.append(QuarantineRecord(name, reason))
        hide(self.storage, checkpoint)
        self._write_state()

    def _check_shards(self, files: Sequence[_Written], step: int, expected: Iterable[TensorSpec] | None) -> None:
        for worker, file in files:
            size = self.storage.staged_size(file.handle)
            if size != file.size_bytes:
                raise WriteFailed(
                    f"step {step}: worker {worker} wrote {file.size_bytes} bytes, {file.handle} has {size}",
                    worker,
                )
        check_coverage([file.entries for _, file in files], expected)

    def _stage(self, request: Commit, files: Sequence[_Written]) -> Checkpoint:
        """Writes index and manifest into staging, durably."""
        index = encode_index([file.entries for _, file in files])
        entries = [entry for _, file in files for entry in file.entries]
        manifest = Manifest(
            name=request.name,
            step=request.step,
            generation=self.journal.state.generation,
            job=self.job,
            timestamp=self.clock(),
            shards=tuple(
                FileRecord(data_file(request.name, number, len(files)), file.size_bytes, file.handle)
                for number, (_, file) in enumerate(files)
            ),
            workers=tuple(worker for worker, _ in files),
            index=FileRecord(index_file(request.name), len(index)),
            index_sha256=hashlib.sha256(index).hexdigest(),
            tensors=len({entry.name for entry in entries}),
            tensor_bytes=sum(entry.size_bytes for entry in entries),
            metrics=request.metrics,
            missing_workers=request.missing,
            states=states_of(request.name, request.shards),
            linked=tuple(number for number, (_, file) in enumerate(files) if file.linked),
        )
        encoded = encode_manifest(manifest)
        return Checkpoint(
            name=request.name,
            step=request.step,
            timestamp=manifest.timestamp,
            generation=manifest.generation,
            files=(
                *manifest.shards,
                *state_records(manifest.states),
                self._stage_file(manifest_file(request.name), encoded, request.round),
                self._stage_file(index_file(request.name), index, request.round),
            ),
            manifest_sha256=hashlib.sha256(encoded).hexdigest(),
            metrics=request.metrics,
        )

    def _stage_file(self, key: str, data: bytes, round_: int) -> FileRecord:
        file = self.storage.stage(self.journal.state.generation, f"{round_:08d}-{key.replace('/', '_')}")
        handle, _ = sealed(file, lambda file: file.write_at(0, data))
        return FileRecord(key, len(data), handle)

    def _stands_anyway(self, act: Callable[[], None]) -> bool:
        """Whether `act` was done. The commit stands: what goes wrong is told, and tried again after the next one."""
        try:
            act()
        except Fenced:
            return False
        except DistckptError as error:
            log.warning("after the commit: %s; it is tried again after the next one", error)
            return False
        return True

    def _left_since(self, before: JournalState) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What retention removed, and what it preserved."""
        live = {each.name for each in self.journal.state.live}
        active = {each.name for each in self.journal.state.active}
        retired = tuple(each.name for each in before.live if each.name not in live)
        preserved = tuple(each.name for each in before.active if each.name in live and each.name not in active)
        return retired, preserved

    def _due(self) -> list[Checkpoint]:
        return [checkpoint for checkpoint in self.journal.state.retired if checkpoint not in self._removed]

    def _remove_retired(self) -> None:
        due = self._due()
        remove_retired(self.storage, due, self.journal.state.live, self.leased)
        self._removed.update(due)
        self._removed.intersection_update(self.journal.state.retired)  # the journal forgets old ones

    def _heal(self) -> None:
        """A chief of an earlier generation, frozen until now, may have touched names that are ours."""
        for checkpoint in self.journal.state.live[-HEALED_MAX:]:
            heal_loudly(self.storage, checkpoint)

    def _write_state(self) -> None:
        write_state(self.storage, self._as_tensorflow_sees(self.journal.state.live), self.last_preserved)

    def _as_tensorflow_sees(self, checkpoints: Sequence[Checkpoint]) -> tuple[Checkpoint, ...]:
        """Where the clock went back before this generation began, no earlier checkpoint is of a time after that."""
        mine, opened_at = self.journal.state.generation, self._opened_at
        return tuple(
            each if each.generation == mine else replace(each, timestamp=min(each.timestamp, opened_at))
            for each in checkpoints
        )
