"""`DistributedCheckpoint`: ModelCheckpoint and BackupAndRestore in one callback, for every worker of the job."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import tensorflow as tf

from distckpt.errors import ConfigurationError, DistckptError, NoRestorableCheckpoint
from distckpt.keras import fit
from distckpt.keras.export import checked_path, export
from distckpt.keras.hooks import Hooks
from distckpt.keras.progress import Progress, finite
from distckpt.manager import CheckpointManager
from distckpt.options import Options
from distckpt.policy import SavePolicy, Schedule
from distckpt.preemption.notice import Preemption, settings_of
from distckpt.protocol.retention import AnyOf, KeepBest, KeepLatest, Policy
from distckpt.tensors import cluster
from distckpt.tensors.held import Held

log = logging.getLogger("distckpt")

LESS_IS_BETTER = ("loss", "error", "mse", "mae", "mape", "msle", "crossentropy")
MORE_IS_BETTER = ("acc", "accuracy", "auc", "precision", "recall")


class DistributedCheckpoint(Hooks):
    """Saves the model, the optimizer and the progress of `fit`, and resumes an interrupted `fit` where it was.

    For `fit` of tf_keras (also under MultiWorkerMirroredStrategy: give it to `fit` on every worker) and of Keras 3
    (alone and under MirroredStrategy). `directory` belongs to one training: a `fit` that finds a checkpoint there goes
    on from it, in the middle of an epoch too, with the history of the epochs before; after the last epoch there is
    nothing left to do.

    - `monitor`, `mode`, `save_best_only`, `initial_value_threshold`, `verbose`: as in ModelCheckpoint, with one
      difference: `save_best_only` says what is *kept*. Every save still happens, since training resumes from the
      newest; kept are that one and the `max_to_keep` best. Without it, the `max_to_keep` newest.
    - `save_freq`: "epoch", or a number of batches; with `save_best_only` the end of each epoch is saved too, which is
      where Keras knows the validation's metrics. False: only as `save_policy` or `preemption`, of which one is then
      needed, say.
    - `save_policy`, `preemption`: as in `distckpt.CheckpointManager`, for the end of each batch. `fit` must run in the
      main thread for `preemption`; after the save that a notice asks for it raises SystemExit. `distckpt save-now` and
      SIGUSR1 save at the end of a batch too.
    - `export`, `export_best`: where the model is written when `fit` has ended, as it is then, and as it was in the best
      checkpoint (this one takes `save_best_only`). The form goes by the name: `.keras`, `.h5`, `.hdf5`, `.weights.h5`,
      or, without a dot, a SavedModel (Keras 3: for inference). A crash leaves the old one or none, see
      `distckpt.keras.export`. After `fit` the model has the values that it ended with.
    - `async_save`, `strategy`, `options`: as in `distckpt.CheckpointManager`; `strategy` is by default the model's.

    A checkpoint's number is the optimizer's count of iterations, its metrics are Keras' logs. To resume in the middle
    of an epoch, the batches that were trained are read from the data again and dropped; so the data must come in the
    same order again for the result to be the same. Meanwhile the batch hooks of other callbacks are called as usual,
    with the logs of the interruption. Callbacks that add to the logs stand before this one; what they remember
    themselves (EarlyStopping's patience) is not saved.

    Raises ConfigurationError (also a ValueError) for arguments that cannot be, and in a job of several workers (as
    TF_CONFIG has it) that has not imported tf_keras: `fit` of Keras 3 does not work there. `fit` raises what
    `distckpt.CheckpointManager` raises.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        monitor: str = "val_loss",
        *,
        verbose: int = 0,
        save_best_only: bool = False,
        mode: Literal["auto", "min", "max"] = "auto",
        save_freq: int | Literal["epoch", False] = "epoch",
        initial_value_threshold: float | None = None,
        max_to_keep: int | None = 3,
        export: str | os.PathLike[str] | None = None,
        export_best: str | os.PathLike[str] | None = None,
        save_policy: SavePolicy | None = None,
        preemption: Preemption | bool | None = None,
        async_save: bool = False,
        strategy: Any = None,
        options: Options | None = None,
    ) -> None:
        super().__init__()
        if fit.fit_can_only_be_keras3s() and _workers_of_the_job() > 1:
            raise _keras3_does_not_fit()
        self.directory = directory
        self.monitor = monitor
        self.verbose = verbose
        self.save_best_only = save_best_only
        Schedule(save_policy)  # refuses here, and not in fit, what is no policy
        self._save_policy = save_policy
        self._preemption = settings_of(preemption)
        self.save_freq = _checked_frequency(save_freq, is_needed=save_policy is None and self._preemption is None)
        self.initial_value_threshold = initial_value_threshold
        self._mode: Literal["min", "max"] | None = None
        if save_best_only or initial_value_threshold is not None:
            self._mode = _resolved_mode(mode, monitor)
        if export_best is not None and not save_best_only:
            raise ConfigurationError("export_best takes save_best_only=True: else the best one may be gone by then")
        self._export = None if export is None else checked_path(export)
        self._export_best = None if export_best is None else checked_path(export_best)
        self._max_to_keep = max_to_keep
        self._async_save = async_save
        self._strategy = strategy
        self._options = options
        self._manager: CheckpointManager | None = None
        self._skipping: fit.Skipping | None = None
        self._epoch = 0
        self._batches_since_save = 0
        self._batches_seen = 0
        # tf_keras: takes tensors as logs, so that no batch is waited for on this callback's account. Keras 3 turns the
        # logs of each batch into numbers, whatever the callbacks are; a save has its place on the training thread.
        self._supports_tf_logs = True
        self.async_safe = False

    # ---------------------------------------------------------------------------------------------------- Keras' hooks

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:  # noqa: ARG002 - Keras' signature
        self._leave_interrupted()
        self._manager = self._opened()
        restored = self._manager.restore_or_initialize()
        self._steps = fit.Steps(self.model)
        if restored is None:
            return
        progress = self._progress
        if not progress.restored:
            self._leave()
            raise ConfigurationError(f"{self.directory} holds checkpoints that no DistributedCheckpoint wrote")
        self._epoch = progress.epoch
        self._say(f"going on from batch {progress.batch + 1}")
        fit.begin_at_epoch(self.model, progress.epoch)
        if progress.batch:
            self._skipping = fit.Skipping(self.model, progress.batch, progress.logs, progress.metrics)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:  # noqa: ARG002 - Keras' too
        self._give_history()
        fit.forget_epoch(self.model)
        self._epoch = epoch
        self._batches_seen = self._progress.batch if epoch == self._progress.epoch else 0

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        done = batch + 1
        trained = done - self._batches_seen
        if trained <= 0:  # skipped: an earlier fit has trained it
            return
        assert self._manager is not None, "Keras calls on_train_begin first"
        self._batches_seen = done
        self._batches_since_save += trained
        self._steps.trained(trained)
        gather = partial(self._gather, done, logs or {})
        is_due = self._saves_on_batches and self._batches_since_save >= self.save_freq
        if is_due:
            self._batches_since_save = 0
            self._save(gather())
        path = self._manager.step_end(self._steps.last, gather)
        if path is not None and not is_due:
            self._say(f"saved {path}")

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._progress.epoch_ended(epoch, logs or {})
        if self.save_best_only or self.save_freq == "epoch":
            self._save(self._metrics())

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:  # noqa: ARG002 - Keras' signature
        self._give_history()
        fit.forget_epoch(self.model)
        try:
            self._write_best()
            if self._export is not None:
                self._write(self._export)
        finally:
            self._leave()

    @property
    def _saves_on_batches(self) -> bool:
        return self.save_freq not in ("epoch", False)

    def _implements_train_batch_hooks(self) -> bool:
        return True

    # ----------------------------------------------------------------------------------------- the manager and resuming

    def _opened(self) -> CheckpointManager:
        model = self.model
        fit.check_model(model)
        strategy = self._strategy_of(model)
        if fit.is_keras3(model) and cluster.cluster_place(strategy).world_size > 1:
            raise _keras3_does_not_fit()
        fit.build_optimizer(model)
        self._progress = Progress(self.initial_value_threshold)
        checkpoint = tf.train.Checkpoint(
            model=model,
            optimizer=model.optimizer,
            random_states=fit.untracked_variables(model),
            progress=self._progress,
        )
        return CheckpointManager(
            checkpoint,
            self.directory,
            self._max_to_keep,
            strategy=strategy,
            save_policy=self._save_policy,
            retention=self._retention(),
            preemption=self._preemption,
            async_save=self._async_save,
            options=self._options,
        )

    def _strategy_of(self, model: Any) -> Any:
        return self._strategy or model.distribute_strategy

    def _retention(self) -> Policy:
        if not self.save_best_only or self._mode is None or self._max_to_keep is None:
            return KeepLatest(self._max_to_keep)
        return AnyOf(KeepLatest(1), KeepBest(self.monitor, self._mode, self._max_to_keep))

    def _give_history(self) -> None:
        """To Keras' History, which by now has begun and forgotten what it was given before."""
        if self._progress.restored:
            self._progress.restored = False
            history = self.model.history
            history.history = {name: list(values) for name, values in self._progress.history.items()}
            history.epoch = list(self._progress.epochs)

    def _leave(self) -> None:
        self._batches_since_save = 0
        if self._skipping is not None:
            self._skipping.remove()
            self._skipping = None
        manager, self._manager = self._manager, None
        if manager is not None:
            manager.close()

    def _leave_interrupted(self) -> None:
        """A `fit` that raised has not said that it has ended."""
        try:
            self._leave()
        except DistckptError:
            log.exception("a save of the fit before this one")

    # ------------------------------------------------------------------------------------------------------- exporting

    def _write_best(self) -> None:
        """The model goes to its best checkpoint and back. All workers agree on which one that is."""
        if self._export_best is None:
            return
        assert self._manager is not None, "Keras calls on_train_begin first"
        last, progress = Held(self._manager.checkpoint), self._progress.serialize()
        try:
            self._manager.restore(f"best:{self.monitor}:{self._mode}").expect_partial()
            self._write(self._export_best)
        except NoRestorableCheckpoint as error:
            log.error("there is no best model to write to %s: %s", self._export_best, error)  # noqa: TRY400 - said it
        finally:
            last.put_back()
            self._progress.deserialize(progress)
            self._progress.restored = False

    def _write(self, target: Path) -> None:
        export(self.model, target, is_chief=cluster.cluster_place(self._strategy_of(self.model)).is_chief)
        self._say(f"wrote {target}")

    # ---------------------------------------------------------------------------------------------------------- saving

    def _gather(self, done: int, logs: Mapping[str, Any]) -> dict[str, float]:
        """Notes where `fit` is, after `done` batches of the epoch, and returns the metrics. Only just before a save:
        it waits for the batch's result and, under several workers, for all of them.
        """
        self._progress.batch_ended(self._epoch, done, logs, fit.metric_values(self.model))
        return self._metrics()

    def _metrics(self) -> dict[str, float]:
        metrics = finite(self._progress.logs)
        if self._mode is not None:
            self._judge(metrics)
        return metrics

    def _save(self, metrics: Mapping[str, float]) -> None:
        assert self._manager is not None, "Keras calls on_train_begin first"
        self._steps.read()
        path = self._manager.save(self._steps.last, metrics=metrics)
        self._say(f"saved {path}")

    def _judge(self, metrics: dict[str, float]) -> None:
        """Notes whether this is the best so far; one that does not reach the threshold is to count for nothing."""
        current, best = metrics.get(self.monitor), self._progress.best
        if current is None:
            if self._progress.batch == 0:  # at the end of an epoch; before, the validation's are not known
                log.warning("%s is not among the logs (%s): this is not a best one", self.monitor, ", ".join(metrics))
            return
        if best is None or self._better(current, best):
            self._say(f"{self.monitor} improved from {'none' if best is None else f'{best:.5f}'} to {current:.5f}")
            self._progress.best = current
        else:
            self._say(f"{self.monitor} did not improve from {best:.5f}")
        threshold = self.initial_value_threshold
        if threshold is not None and not self._better(current, threshold):
            del metrics[self.monitor]

    def _better(self, one: float, other: float) -> bool:
        return one > other if self._mode == "max" else one < other

    def _say(self, text: str) -> None:
        if self.verbose:
            sys.stdout.write(f"\nEpoch {self._epoch + 1}: {text}\n")


def _checked_frequency(save_freq: Any, *, is_needed: bool) -> Any:
    if save_freq is False and is_needed:
        raise ConfigurationError("save_freq=False takes a save_policy, or preemption: else nothing would be saved")
    if save_freq is False or save_freq == "epoch":
        return save_freq
    if isinstance(save_freq, int) and not isinstance(save_freq, bool) and save_freq > 0:
        return save_freq
    raise ConfigurationError(f"save_freq is 'epoch', a positive number of batches, or False, not {save_freq!r}")


def _resolved_mode(mode: str, monitor: str) -> Literal["min", "max"]:
    match mode:
        case "min" | "max":
            return mode
        case "auto" if monitor.endswith(LESS_IS_BETTER):
            return "min"
        case "auto" if monitor.endswith(MORE_IS_BETTER):
            return "max"
        case "auto":
            raise ConfigurationError(f"is more or less of {monitor!r} better? say mode='max' or mode='min'")
    raise ConfigurationError(f"mode is 'auto', 'min' or 'max', not {mode!r}")


def _workers_of_the_job() -> int:
    tasks = tf.distribute.cluster_resolver.TFConfigClusterResolver().cluster_spec().as_dict()
    return sum(len(tasks.get(kind, ())) for kind in ("chief", "worker"))


def _keras3_does_not_fit() -> ConfigurationError:
    return ConfigurationError(
        "fit of Keras 3 does not work under MultiWorkerMirroredStrategy, in Keras itself: use tf_keras, or a loop of "
        "your own with distckpt.CheckpointManager, as in examples/custom_loop.py"
    )
