"""The callback interface that tf_keras and Keras 3 share, without importing either: both take what has these methods.

tf_keras asks `_implements_..._batch_hooks`, Keras 3 looks for `_is_default` on the methods: those that do nothing cost
nothing per batch.
"""

from __future__ import annotations

from typing import Any


def _nothing(*_: Any, **__: Any) -> None:
    """A hook that does nothing."""


_nothing._is_default = True  # type: ignore[attr-defined]  # noqa: SLF001 - as keras.src.utils.default marks it


class Hooks:
    """A callback that does nothing. `model` and `params` are set by Keras when `fit` begins."""

    def __init__(self) -> None:
        self.model: Any = None
        self.params: dict[str, Any] = {}

    def set_model(self, model: Any) -> None:
        self.model = model

    def set_params(self, params: dict[str, Any]) -> None:
        self.params = params

    on_batch_begin = on_batch_end = _nothing
    on_train_batch_begin = _nothing
    on_test_begin = on_test_end = on_test_batch_begin = on_test_batch_end = _nothing
    on_predict_begin = on_predict_end = on_predict_batch_begin = on_predict_batch_end = _nothing

    def _implements_test_batch_hooks(self) -> bool:
        return False

    def _implements_predict_batch_hooks(self) -> bool:
        return False
