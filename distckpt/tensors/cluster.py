"""Which worker this process is, and the small key-value store that TensorFlow's own cluster shares.

The store belongs to this incarnation of the cluster: a restarted cluster starts with an empty one. Every lookup has a
deadline.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import tensorflow as tf

from distckpt.errors import ConfigurationError
from distckpt.model import CHIEF, Place
from distckpt.tensors import internals

_SINGLE_WORKER = (
    tf.distribute.MirroredStrategy,
    tf.distribute.OneDeviceStrategy,
    tf.distribute.experimental.CentralStorageStrategy,
)

ALONE = Place(worker=CHIEF, world_size=1)


def cluster_place(strategy: Any) -> Place:
    """The place of this process under `strategy`, a tf.distribute.Strategy.

    Raises ConfigurationError for a strategy that distckpt does not know how to save, or a task that does not train.
    """
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return _resolved(strategy.cluster_resolver)
    if isinstance(strategy, _SINGLE_WORKER) or internals.is_default_strategy(strategy):
        return ALONE
    if has_parameter_servers(strategy):
        return ALONE  # only its coordinator runs the program; it reads from the parameter servers
    supported = (
        "MultiWorkerMirroredStrategy, MirroredStrategy, ParameterServerStrategy, CentralStorageStrategy, "
        "OneDeviceStrategy or no strategy"
    )
    raise ConfigurationError(f"distckpt cannot save under {type(strategy).__name__}: use {supported}")


def has_parameter_servers(strategy: Any) -> bool:
    """Whether the variables of `strategy` are on other tasks than the one that runs the program."""
    return isinstance(strategy, tf.distribute.ParameterServerStrategy)


def refuse_hidden_cluster(place: Place, environ: Mapping[str, str]) -> None:
    """Without its strategy each worker of a cluster would take itself for the chief of a job of its own.

    Raises ConfigurationError where TF_CONFIG names several workers and `place` is that of a single one.
    """
    try:
        cluster = json.loads(environ.get("TF_CONFIG") or "{}").get("cluster", {})
    except (ValueError, AttributeError) as error:
        raise ConfigurationError(f"TF_CONFIG is no JSON object: {error}") from error
    tasks = [*cluster.get("chief", ()), *cluster.get("worker", ())]
    if place.world_size == 1 and len(tasks) > 1:
        raise ConfigurationError(
            f"TF_CONFIG names {len(tasks)} workers, and this CheckpointManager's strategy has one: construct "
            "the manager within strategy.scope(), or pass it strategy="
        )


_boards = itertools.count(1)


class ClusterBoard:
    """A `runtime.board.Board` in the key-value store of TensorFlow's coordination service.

    The store belongs to one start of the cluster. The n-th board that each worker makes is the same one.
    """

    def __init__(self) -> None:
        self._key = f"distckpt/{next(_boards)}"

    def publish(self, text: str) -> None:
        """Sets the text; a second one is not heard of by anyone who has the first."""
        with suppress(tf.errors.AlreadyExistsError):
            internals.set_config_key_value(self._key, text)

    def lookup(self, timeout_s: float) -> str:
        """The text, waiting up to `timeout_s` seconds for it to be set; raises TimeoutError."""
        timeout_ms = max(1, round(timeout_s * 1000))  # zero would wait for ever
        try:
            return internals.get_config_key_value(self._key, timeout_ms)
        except tf.errors.DeadlineExceededError as error:
            raise TimeoutError(f"the cluster's key-value store had no {self._key!r} within {timeout_s:g} s") from error


def _resolved(resolver: Any) -> Place:
    spec = resolver.cluster_spec()
    if not spec.as_dict():
        return ALONE
    if resolver.task_type not in ("chief", "worker"):
        raise ConfigurationError(f"a task of type {resolver.task_type!r} does not train and cannot save")
    addresses = internals.cluster_addresses(spec)
    worker = internals.index_in_cluster(spec, resolver.task_type, resolver.task_id)
    return Place(worker, len(addresses), addresses)
