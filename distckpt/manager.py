"""`CheckpointManager`: what a training script sees."""

from __future__ import annotations

import inspect
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import tensorflow as tf

from distckpt.errors import ConfigurationError, DistckptError, ManagerClosed, UnsupportedState
from distckpt.model import NO_METRICS, Checkpoint, Place, StepMetrics
from distckpt.observe.observatory import Observatory
from distckpt.observe.step_file import StepFile
from distckpt.options import Options
from distckpt.policy import SavePolicy, Schedule
from distckpt.preemption.notice import Preemption, settings_of
from distckpt.preemption.triggers import Triggers
from distckpt.protocol.messages import Committed
from distckpt.protocol.retention import Chooser, KeepLatest, Policy, Preservation, Sparing, policy_from
from distckpt.protocol.selector import selector_of
from distckpt.report import SaveReport
from distckpt.runtime.naming import name_prefix
from distckpt.runtime.salvage import Keeper
from distckpt.runtime.session import OnCommit, Session, close_when_forgotten, open_session
from distckpt.runtime.temporary import Readers, shared_directory
from distckpt.runtime.tenancy import Follower, Tenancy
from distckpt.runtime.ticket import RestoreTicket, SaveRequest, SaveTicket
from distckpt.runtime.worker_state import state_to_restore
from distckpt.tensors import cluster, internals
from distckpt.tensors.exchange import exchange
from distckpt.tensors.restore import restore
from distckpt.tensors.scalars import scalar_writer
from distckpt.tensors.sessions import SessionSource, refuse_graphs, step_of
from distckpt.tensors.source import Source
from distckpt.tensors.worker_state import WorkerState

log = logging.getLogger("distckpt")

_readers: Readers[CheckpointManager] = Readers()


class CheckpointManager(tf.train.CheckpointManager):  # type: ignore[misc]  # TensorFlow has no types
    """A `tf.train.CheckpointManager` whose checkpoints are written by all workers of the job together.

    Every worker constructs one, with the same arguments, and calls the same methods at the same steps. What is
    written is an ordinary TensorFlow checkpoint. The first ten arguments are TensorFlow's, with TensorFlow's meaning.

    - `strategy`: the `tf.distribute.Strategy` of the job; default: `tf.distribute.get_strategy()`.
    - `save_policy`: when `step_end` saves: `distckpt.EverySteps`, `EverySeconds`, or `AnyOf` them. Besides, all workers
      save at the end of a step when `distckpt save-now DIR` or SIGUSR1 on any of them asks for it.
    - `retention`: what is kept, instead of `max_to_keep`: see `distckpt.KeepLatest` and its neighbours. Or a function:
      given the checkpoints (with `step`, `name`, `timestamp`, `metrics`), oldest first, it returns those to keep. It
      is called on the chief, on another thread; where it fails, that is logged and nothing is removed.
    - `preemption`: True or a `distckpt.Preemption`: at a notice that a worker will be gone (SIGTERM, SIGINT, Slurm's
      time limit, Google's and Amazon's clouds) all save at the end of the step, and `step_end` raises SystemExit.
    - `async_save`: False: `save` returns after the commit. True: it returns as soon as the values are captured; errors
      are logged at once and raised by the next call of `save`, `step_end` or `wait`.
    - `worker_state`: a `tf.train.Checkpoint` of what only this worker has (iterators, random generators). Saved as a
      checkpoint of its own, `NAME.worker-I-of-N`, and restored on the worker of the same index.
    - `options`: a `distckpt.Options`.

    The constructor raises ConfigurationError (also a ValueError), DirectoryNotWritable, DirectoryMismatch,
    DirectoryInUse, CoordinatorUnreachable, Refused, CorruptJournal; all of `distckpt.errors`.
    """

    def __init__(
        self,
        checkpoint: Any,
        directory: str | os.PathLike[str],
        max_to_keep: int | None,
        keep_checkpoint_every_n_hours: float | None = None,
        checkpoint_name: str = "ckpt",
        step_counter: Any = None,
        checkpoint_interval: int | None = None,
        init_fn: Any = None,
        last_checkpoint_step: int | None = None,
        *,
        strategy: Any = None,
        save_policy: SavePolicy | None = None,
        retention: Policy | Chooser | None = None,
        preemption: Preemption | bool | None = None,
        async_save: bool = False,
        worker_state: Any = None,
        options: Options | None = None,
    ) -> None:
        strategy = tf.distribute.get_strategy() if strategy is None else strategy
        place, remote = cluster.cluster_place(strategy), cluster.has_parameter_servers(strategy)
        if not remote:
            cluster.refuse_hidden_cluster(place, os.environ)
        self._is_eager = tf.executing_eagerly()
        refuse_graphs(place, made_eagerly=self._is_eager)
        self._schedule = Schedule(save_policy)
        notices = settings_of(preemption)
        self._async_save = async_save
        self._retention = KeepLatest(max_to_keep) if retention is None else policy_from(retention)
        self._name_prefix = name_prefix(os.fspath(directory), checkpoint_name)
        self._in_flight: SaveTicket | None = None
        self._last_committed: SaveTicket | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._strategy, self._place = strategy, place
        self._source = Source(checkpoint, place, fetching=remote) if self._is_eager else SessionSource(checkpoint)
        self._worker_state = None if worker_state is None else WorkerState(worker_state, place)
        self._options = options or Options()
        self._keeper = Keeper(self._source, self._worker_state, place, self._options.snapshot_every, self._name_prefix)
        self._calling: Future[None] | None = None
        self._step_file = StepFile(os.environ)
        self._shared = shared_directory(os.fspath(directory), place)
        self._is_temporary = self._shared != os.fspath(directory)
        self._reader = _readers.find(checkpoint, self._shared) if self._is_temporary else None
        follower = Follower.weakly(self._on_commit, self._remember)
        open_mine = partial(
            _open,
            self._shared,
            place,
            self._retention,
            self._options,
            preservation=Preservation(keep_checkpoint_every_n_hours),
        )
        if self._reader is None:
            self._tenancy = Tenancy(os.path.realpath(self._shared), self._name_prefix, open_mine, follower)
        else:
            self._tenancy = self._reader._tenancy  # noqa: SLF001 - of the same class
            self._tenancy.follow(follower)
        try:
            # After the recovery: it has mended the state file, on which TensorFlow's constructor would fail.
            super().__init__(
                checkpoint,
                directory,
                max_to_keep,
                keep_checkpoint_every_n_hours,
                checkpoint_name,
                step_counter,
                checkpoint_interval,
                init_fn,
                last_checkpoint_step,
            )
            save_s = self._options.deadlines.save_s
            self._triggers = Triggers(self, self._tenancy, self._schedule, place, save_s, notices)
        except BaseException:
            self._leave()
            raise
        self._remember(self._session.checkpoints)
        if self._reader is not None:
            self._maybe_delete, self._latest_checkpoint = self._reader._listed()  # noqa: SLF001 - of the same class
            return
        close_when_forgotten(self, self._tenancy)
        if not self._is_temporary:
            _readers.add(self, checkpoint, self._shared)

    @property
    def _session(self) -> Session:
        return self._tenancy.session

    # ---------------------------------------------------------------------------------------------------------- saving

    def save(
        self,
        checkpoint_number: Any = None,
        check_interval: bool = True,  # noqa: FBT001, FBT002 - TensorFlow's signature
        options: Any = None,
        *,
        metrics: Mapping[str, float] | None = None,
    ) -> str | None:
        """Saves, on all workers together: each must call it, with the same number.

        The first three arguments are TensorFlow's. `metrics` (the chief's count) stand in the manifest. Returns the
        path of the checkpoint, None if `checkpoint_interval` says that it is too early. Raises SaveAborted (nothing
        was committed, nothing is lost: the next save may succeed), OutcomeUnknown, or FatalError; also those of an
        earlier asynchronous save, once.
        """
        self._check_open()
        if not self._interval_is_over(check_interval=check_interval):
            return None
        counter = self._source.count_save()
        step = step_of(counter if checkpoint_number is None else checkpoint_number)
        if step < 0:
            raise ConfigurationError(f"checkpoint_number is {step}: distckpt numbers checkpoints from 0 on")
        return self._save(step, metrics, options)

    def step_end(self, step: int, metrics: StepMetrics = None) -> str | None:
        """To be called once after each training step, on every worker; saves when `save_policy`, or someone, says so.

        `step` is the number of the step that has ended. `metrics`: as in `save`, or a function that returns them, which
        is called only before a save. Returns and raises as `save` does. While the workers agree on a step, one that is
        ahead of the others is held here, for `Deadlines.held_s` at most.
        """
        self._check_open()
        if self._in_flight is not None and self._in_flight.outcome.error is not None:
            self.wait()
        agreed = self._keeper.step_ended(self._session.agent, step, metrics)
        self._step_file.step(step)
        if agreed is None and not self._schedule.due(step):
            self._triggers.step_ended(self)
            return None
        last, name = self._in_flight or self._last_committed, f"{self._name_prefix}{step}"
        if agreed is not None and last is not None and last.request.name == name:
            return self._triggers.save(agreed, lambda: self._path(name), self)  # the caller has saved here, just before
        self._source.count_save()
        return self._triggers.save(
            agreed, lambda: self._save(step, metrics() if callable(metrics) else metrics, None), self
        )

    def wait(self, timeout: float | None = None) -> None:
        """Until the save in flight, if any, is committed, and its callbacks have run. Raises its error, or theirs;
        TimeoutError after `timeout` seconds.

        Without a timeout it waits as long as `Options.deadlines` allow, and the callbacks take.
        """
        ticket = self._in_flight
        if ticket is not None:
            if not ticket.outcome.wait(timeout) and timeout is not None:
                raise TimeoutError(f"{ticket.outcome.what} is not committed after {timeout} s; it goes on")
            self._in_flight = None
            ticket.outcome.result()
        calling = self._calling
        if calling is not None:
            calling.exception(timeout)
            self._calling = None
            calling.result()

    def sync(self) -> None:
        """As in TensorFlow: waits for the save in flight, and for what TensorFlow itself does in the background."""
        self.wait()
        super().sync()

    @property
    def last_save(self) -> SaveReport | None:
        """What the last committed save cost; None before the first of this manager."""
        ticket = self._last_committed
        if ticket is None or ticket.outcome.ended is None:
            return None
        step, name = ticket.request.step, ticket.request.name
        by_worker = self._session.bytes_by_worker(name)
        return SaveReport(
            step=step,
            name=name,
            bytes=sum(by_worker) if by_worker else ticket.written_bytes,
            bytes_by_worker=by_worker,
            blocking_s=ticket.blocked_s,
            commit_s=ticket.outcome.ended - ticket.outcome.begun,
        )

    # ------------------------------------------------------------------------------------------------------- restoring

    def restore_or_initialize(self, *, cooperative: bool = False) -> str | None:
        """Restores the newest checkpoint that is whole, the same on all workers; each must call it.

        Every byte is verified before any variable changes; a corrupt checkpoint is set aside, and the one before it
        taken, with a report in the log. Without any checkpoint `init_fn` is called, as in TensorFlow. Returns the
        path or None. Raises NoRestorableCheckpoint where checkpoints exist and all are corrupt: never a silent start
        from scratch.
        """
        self._step_file.restoring()
        agreed = self._agreed("latest", cooperative=cooperative)
        if agreed is None:
            if self._init_fn is not None:
                self._init_fn()
        else:
            self._restored(self.checkpoint, *agreed)
            if self._checkpoint_interval is not None:
                self._last_checkpoint_step = step_of(self._step_counter)
        self._prepare()
        self._step_file.restored()
        return agreed[0] if agreed else None

    def restore(self, step: int | str | None = None, *, into: Any = None, cooperative: bool = False) -> Any:
        """Restores one checkpoint on all workers; each must call it with the same argument.

        `step`: a step, "latest" (also None), "best:METRIC" where the retention is a `KeepBest` of that metric, or
        "best:METRIC:min" and "best:METRIC:max". `into`: another tf.train.Checkpoint that takes the values of the same
        names, a part of the model for example; default: the manager's. `cooperative`: each worker reads 1/N from the
        storage, and they exchange it by collectives. Returns TensorFlow's status object, for `assert_consumed()`,
        `expect_partial()` and their like. Raises CorruptCheckpoint, NoRestorableCheckpoint, ConfigurationError.
        """
        agreed = self._agreed(selector_of(step, self._retention), whole=into is None, cooperative=cooperative)
        checkpoint = self.checkpoint if into is None else into
        return self._restored(checkpoint, *agreed) if agreed else checkpoint.restore(None)

    def _restored(self, checkpoint: Any, path: str, ticket: RestoreTicket) -> Any:
        """Restores `checkpoint` from `path` and, where it is the manager's own, what only this worker has."""
        own = self._worker_state if checkpoint is self.checkpoint else None
        name = own and state_to_restore(path, ticket.manifest, own.place, self._options.changed_world)
        assert ticket.loader is not None, "what is decided was verified"
        status = restore(checkpoint, path, ticket.loader)
        if own and name:
            restore(own.checkpoint, self._path(name), self._session.agent.loader(name))
        return status

    def _prepare(self) -> None:
        """Looks at what is tracked now, before the training: else the first save would do it in the middle."""
        with suppress(UnsupportedState, tf.errors.OpError):  # the save will say so
            self._source.prepare()
            if self._worker_state is not None:
                self._worker_state.prepare()

    def _agreed(
        self, selector: str, *, whole: bool = True, cooperative: bool = False
    ) -> tuple[str, RestoreTicket] | None:
        """The path that all workers restore from, with what this one knows of it; None: there is no checkpoint."""
        self._check_open()
        self.wait()
        cooperative = cooperative and self._place.world_size > 1
        ticket = self._session.agent.begin_restore(selector, whole=whole and not cooperative)
        decided = ticket.outcome.result()
        path = None if decided.name is None else self._path(decided.name)
        for name in decided.quarantined:
            log.error("%s is corrupt and was set aside", self._path(name))
            self._forget(name, path if selector == "latest" else None)
        if cooperative and path is not None:
            assert ticket.loader is not None, "what is decided was verified"
            exchange(self._strategy, self._place, ticket.loader)
        return None if path is None else (path, ticket)

    # --------------------------------------------------------------------------------------------------------- closing

    def close(self) -> None:
        """Waits for the save in flight and leaves the job. Raises that save's error. May be called twice.

        Called by itself at the end of the process, for those who forget it.
        """
        if self._closed:
            return
        self._closed = True
        self._triggers.close()
        try:
            self.wait()
        finally:
            self._step_file.close()
            self._leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        try:
            self.close()
        except DistckptError:
            if error is None:
                raise
            log.exception("while the body's own error was on its way")

    def _leave(self) -> None:
        if self._reader is None:
            self._tenancy.close()

    def _check_open(self) -> None:
        if self._closed or (self._reader is not None and self._reader._closed):  # noqa: SLF001 - of the same class
            raise ManagerClosed("this CheckpointManager was closed")
        refuse_graphs(self._place, made_eagerly=self._is_eager)
        self._tenancy.claim()

    # -------------------------------------------------------------------------------------------------------- the save

    def _interval_is_over(self, *, check_interval: bool) -> bool:
        """TensorFlow's rule for `checkpoint_interval`; notes the step if a save is due."""
        if self._checkpoint_interval is None:
            return True
        step = step_of(self._step_counter)
        last = self._last_checkpoint_step
        if last is not None and (step == last or (check_interval and step < last + self._checkpoint_interval)):
            return False
        self._last_checkpoint_step = step
        return True

    def _save(self, step: int, metrics: Mapping[str, float] | None, options: Any) -> str:
        begun = time.monotonic()
        self._schedule.begin()
        self.wait()
        if self._is_temporary:
            Path(self.directory).mkdir(parents=True, exist_ok=True)  # programs of the recipe delete it after the save
        name = f"{self._name_prefix}{step}"
        ticket = self._in_flight = self._announced(step, name, metrics or NO_METRICS)
        callbacks = tuple(getattr(options, "experimental_write_callbacks", None) or ())
        asynchronous = self._async_save or getattr(options, "experimental_enable_async_checkpoint", False)
        if asynchronous and self._options.affords(ticket.request.size_bytes):
            if callbacks:
                self._calling = Future()
                call = partial(self._call_back, ticket, callbacks, self._calling)
                threading.Thread(target=call, name="distckpt-callbacks").start()
        else:
            self.wait()
            _execute_callbacks(callbacks, self._path(name))
        self._session.agent.held(ticket, time.monotonic() - begun)
        return self._path(name)

    def _announced(self, step: int, name: str, metrics: Mapping[str, float]) -> SaveTicket:
        """Announces the save with its snapshot or, where capturing runs collectives, before it."""
        agent = self._session.agent
        try:
            layout = self._source.layout()
            state = None if self._worker_state is None else self._worker_state.capture()
            snapshot = None if layout.needs_collectives else self._source.capture(looked=True)
        except Exception as error:
            agent.refuse_save(error)
            raise
        own_bytes = sum(each.own_bytes for each in (snapshot, state) if each is not None)
        request = SaveRequest(step, name, layout.replicated, layout.digest, own_bytes, metrics)
        ticket = agent.begin_save(request, snapshot, state)
        if snapshot is None:
            self._capture_together(ticket)
        return ticket

    def _capture_together(self, ticket: SaveTicket) -> None:
        """Waits until all workers are at this save, or it is over: a collective that one of them misses would hang."""
        if not ticket.decided.wait(ticket.outcome.patience_s) or ticket.outcome.done():
            return
        try:
            self._session.agent.captured(ticket, self._source.capture(looked=True))
        except Exception as error:
            self._session.agent.capture_failed(ticket, error)
            raise

    def _call_back(self, ticket: SaveTicket, callbacks: Sequence[Callable[..., object]], done: Future[None]) -> None:
        """After the commit, runs the callbacks of `tf.train.CheckpointOptions`; the next `wait` raises what they do."""
        try:
            if ticket.outcome.wait() and ticket.outcome.error is None:
                _execute_callbacks(callbacks, self._path(ticket.request.name))
        except BaseException as error:  # noqa: BLE001  # it is the training thread's to see
            done.set_exception(error)
        else:
            done.set_result(None)

    # ------------------------------------------------------------------------------------ TensorFlow's own bookkeeping

    def _path(self, name: str) -> str:
        return os.path.join(self._shared, name)  # noqa: PTH118 - as TensorFlow spells paths, also "./ckpt-1"

    def _remember(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Fills the fields behind TensorFlow's `checkpoints` and `latest_checkpoint`."""
        active = [each for each in checkpoints if not each.preserved]
        self._maybe_delete = OrderedDict((self._path(each.name), each.timestamp) for each in active)
        self._latest_checkpoint = self._path(checkpoints[-1].name) if checkpoints else None

    def _on_commit(self, ticket: SaveTicket, committed: Committed) -> None:
        """Called on the agent's thread, before whoever waits for the save is woken."""
        with self._lock:
            self._last_committed = ticket
            for name in (committed.checkpoint.name, *committed.retired):
                self._maybe_delete.pop(self._path(name), None)
            self._latest_checkpoint = self._path(committed.checkpoint.name)
            self._maybe_delete[self._latest_checkpoint] = committed.checkpoint.timestamp

    def _listed(self) -> tuple[OrderedDict[str, float], str | None]:
        with self._lock:
            return self._maybe_delete.copy(), self._latest_checkpoint

    def _forget(self, name: str, latest: str | None) -> None:
        with self._lock:
            self._maybe_delete.pop(self._path(name), None)
            self._latest_checkpoint = latest or next(reversed(self._maybe_delete), None)


def _open(
    directory: str,
    place: Place,
    retention: Policy,
    options: Options,
    on_commit: OnCommit,
    others: frozenset[str],
    inherited: frozenset[str],
    *,
    preservation: Preservation,
) -> Session:
    """One session more: the n-th of each worker meets the n-th of the others, on a board of their own."""
    board = cluster.ClusterBoard()
    policy = Sparing(retention, others, inherited)
    return open_session(
        directory,
        place,
        board,
        policy,
        options,
        on_commit,
        preservation=preservation,
        clock=internals.now,
        observer=Observatory(options, policy, scalar_writer(options.tensorboard)) if place.is_chief else None,
    )


def _execute_callbacks(callbacks: Sequence[Callable[..., object]], path: str) -> None:
    """As TensorFlow does: in order, each with the path or, if it takes nothing, without (checkpoint/checkpoint.py)."""
    for callback in callbacks:
        takes = len(inspect.signature(callback).parameters)
        if takes > 1:
            raise AssertionError(f"a write callback takes the path or nothing; {callback} takes {takes} arguments")
        callback(*[path][:takes])
