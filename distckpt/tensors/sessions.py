"""TensorFlow 1's way, a graph and a session: TensorFlow itself writes there, and its bytes are taken over.

For a program of one worker. A save holds it until its session has run, and the whole checkpoint is in memory then.
"""

from __future__ import annotations

import tempfile
from numbers import Integral
from pathlib import Path
from typing import Any

import tensorflow as tf

from distckpt.errors import ConfigurationError
from distckpt.model import Place
from distckpt.protocol.plan import specs_digest
from distckpt.tensors.foreign import bundle_payloads
from distckpt.tensors.layout import Layout
from distckpt.tensors.snapshot import Snapshot


class SessionSource:
    """As `source.Source`, for a tf.train.Checkpoint of objects in a tf.Graph; in the default session."""

    def __init__(self, checkpoint: Any) -> None:
        self._checkpoint = checkpoint
        self._increment: Any = None

    def prepare(self) -> None:
        """Nothing: what is in the graph may not be initialized yet."""

    def layout(self) -> Layout:
        return Layout((), specs_digest(()), collective=())

    def capture(self, *, looked: bool = False) -> Snapshot:  # noqa: ARG002 - as the other source
        """What `checkpoint.write` writes. Raises what it raises, and ConfigurationError without a session."""
        _session()
        with tempfile.TemporaryDirectory(prefix="distckpt-") as folder:
            prefix = Path(self._checkpoint.write(str(Path(folder) / "part")))
            return Snapshot(self.layout(), {}, (), list(bundle_payloads(prefix)))

    def count_save(self) -> Any:
        """Increments `save_counter` and returns it; one that is made now begins at 0."""
        session = _session()

        def initialized(make: Any, **arguments: Any) -> Any:
            variable = make(**arguments)
            session.run(variable.initializer)
            return variable

        with tf.variable_creator_scope(initialized):
            counter = self._checkpoint.save_counter
        if self._increment is None:  # once: each makes a node in the graph
            self._increment = counter.assign_add(1, read_value=False)
        session.run(self._increment)
        return counter


def step_of(number: Any) -> int:
    """TensorFlow's own conversion: of Python and NumPy integers, variables and tensors, of a graph too."""
    if isinstance(number, Integral):
        return int(number)
    return int(tf.compat.v1.train.global_step(tf.compat.v1.get_default_session(), number))


def refuse_graphs(place: Place, *, made_eagerly: bool) -> None:
    """But for a program of one worker that lives in a tf.Graph throughout. Raises ConfigurationError."""
    if made_eagerly and tf.executing_eagerly():
        return
    if tf.inside_function():
        raise ConfigurationError("distckpt saves and restores between steps, not from within a tf.function")
    if tf.executing_eagerly() != made_eagerly or (place.world_size > 1 and not made_eagerly):
        raise ConfigurationError(
            "in a tf.Graph or a tf.compat.v1 session distckpt works with one worker, and with a manager that was made "
            "there and is used only there"
        )


def _session() -> Any:
    session = tf.compat.v1.get_default_session()
    if session is None:
        raise ConfigurationError("in a tf.Graph a save needs a session: `with session.as_default(): manager.save()`")
    return session
