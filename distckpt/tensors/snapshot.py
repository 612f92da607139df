"""The state at one step, held by reference: TensorFlow copies a variable on its next write while someone holds it.

A snapshot is made on the training thread (`source.Source.capture`) and read on any other. Its values never
change. It costs no memory until training updates what it holds; `release` it as soon as it is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from distckpt.bundle.payload import Payload
from distckpt.bundle.strings import encode_strings
from distckpt.errors import UnsupportedState
from distckpt.model import Extent, Piece, Slice, TensorSpec
from distckpt.tensors.foreign import tensor_payloads
from distckpt.tensors.host import all_host_bytes, host_bytes, row_bytes
from distckpt.tensors.layout import Layout, tensor_spec


@dataclass(frozen=True, slots=True)
class OwnTensor:
    """A tensor that only this worker answers for, or (`part`) a slice of one of shape `full_shape`."""

    key: str
    tensor: Any
    part: Slice | None = None
    full_shape: tuple[int, ...] | None = None

    @property
    def spec(self) -> TensorSpec:
        return tensor_spec(self.key, self.tensor, self.part, self.full_shape)


class Snapshot:
    """What was captured on one worker. `layout` is what all workers hold alike, `own` what only this one writes.

    `own_bytes` is the size of the latter; where elements are of variable length it is an estimate. `spare` is what the
    chief writes as its own, as this worker has it (None: that cannot be had here): it is needed when the chief is gone.
    """

    def __init__(
        self,
        layout: Layout,
        tensors: Mapping[str, Any],
        own: Sequence[OwnTensor],
        saved: Sequence[Payload],
        spare: Sequence[OwnTensor] | None = (),
    ) -> None:
        self.layout = layout
        self.own = tuple(item.spec for item in own) + tuple(map(_spec_of, saved))
        self.own_bytes = sum(spec.size_bytes for spec in self.own)
        self._tensors = tensors
        self._own = own
        self._saved = saved
        self._spare = spare

    def payloads(self, pieces: Iterable[Piece], *, own: bool) -> list[Payload]:
        """The bytes of `pieces` of the replicated tensors, then (where `own`) of all that only this worker has.

        Called behind the training step. The payloads are views that stay valid after `release`. Raises KeyError for a
        tensor that is not in `layout`, ValueError for rows that it does not have.
        """
        specs = {spec.name: spec for spec in self.layout.replicated}
        wanted = list(pieces)
        on_host = all_host_bytes({piece.tensor: self._tensors[piece.tensor] for piece in wanted})
        found = [_piece(specs[piece.tensor], on_host[piece.tensor], piece) for piece in wanted]
        return [*found, *_own_payloads(self._own), *self._saved] if own else found

    def everything(self) -> list[Payload]:
        """All that the checkpoint holds, from this worker. Raises UnsupportedState where some of it is the chief's."""
        if self._spare is None:
            raise UnsupportedState("what the checkpoint tracks beside variables could be taken on the chief alone")
        whole = [Piece(spec.name, spec.size_bytes) for spec in self.layout.replicated]
        return [*self.payloads(whole, own=True), *_own_payloads(self._spare)]

    def release(self) -> None:
        """Lets go of what is held: afterwards there are no payloads to be had. Allowed twice."""
        self._tensors, self._own, self._saved, self._spare = {}, (), (), ()


def _own_payloads(own: Sequence[OwnTensor]) -> list[Payload]:
    variants = [(item.key, item.tensor) for item in own if item.tensor.dtype == tf.variant]
    others = [_own_payload(item) for item in own if item.tensor.dtype != tf.variant]
    return others + tensor_payloads(variants)


def _spec_of(payload: Payload) -> TensorSpec:
    return TensorSpec(payload.name, payload.dtype, payload.shape, payload.data.nbytes, payload.part)


def _piece(spec: TensorSpec, whole: NDArray[np.uint8], piece: Piece) -> Payload:
    if piece.rows is None:
        return Payload(spec.name, spec.dtype, spec.shape, whole)
    data = row_bytes(whole, spec.shape[0], piece.rows.start, piece.rows.length)
    part = (piece.rows, *(Extent(0, size) for size in spec.shape[1:]))
    return Payload(spec.name, spec.dtype, spec.shape, data, part)


def _own_payload(item: OwnTensor) -> Payload:
    spec = item.spec
    if item.tensor.dtype != tf.string:
        return Payload(spec.name, spec.dtype, spec.shape, host_bytes(item.tensor), spec.part)
    data, crc32c = encode_strings(np.asarray(item.tensor).reshape(-1).tolist())
    return Payload(spec.name, spec.dtype, spec.shape, data, spec.part, crc32c)
