"""TensorFlow's text file `checkpoint`: which checkpoints there are, and which is the latest.

`tf.train.latest_checkpoint` and `tf.train.CheckpointManager` read it. What is formatted here is, byte for byte, what
`tf.train.update_checkpoint_state` writes of the same values. Paths inside the directory are relative to it.
"""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf import text_format

from distckpt.bundle.v1 import bundle_pb2 as pb
from distckpt.errors import CorruptData

STATE_FILE = "checkpoint"


@dataclass(frozen=True, slots=True)
class CheckpointState:
    """The fields of TensorFlow's CheckpointState. Timestamps are seconds since the epoch.

    `all_model_checkpoint_paths` are oldest first; `all_model_checkpoint_timestamps` are parallel to them, or empty.
    In the file a `last_preserved_timestamp` of 0 is the same as none (the message is proto3).
    """

    model_checkpoint_path: str
    all_model_checkpoint_paths: tuple[str, ...] = ()
    all_model_checkpoint_timestamps: tuple[float, ...] = ()
    last_preserved_timestamp: float | None = None


def format_state(state: CheckpointState) -> bytes:
    proto = pb.CheckpointState(
        model_checkpoint_path=state.model_checkpoint_path,
        all_model_checkpoint_paths=state.all_model_checkpoint_paths,
        all_model_checkpoint_timestamps=state.all_model_checkpoint_timestamps,
        last_preserved_timestamp=state.last_preserved_timestamp,
    )
    return text_format.MessageToString(proto).encode()


def parse_state(data: bytes) -> CheckpointState:
    """Reads the file's content; fields that a later TensorFlow may add are ignored.

    Raises CorruptData, with the line where there is one, for what TensorFlow could not have written: it would itself
    ignore the file with a warning, and training would start from scratch.
    """
    try:
        proto = text_format.Parse(data.decode(), pb.CheckpointState(), allow_unknown_field=True)
    except text_format.ParseError as error:
        line = f"line {error.GetLine()}: " if error.GetLine() else ""
        raise CorruptData(STATE_FILE, f"{line}{error}") from error
    except (ValueError, RecursionError) as error:
        raise CorruptData(STATE_FILE, f"it is not text: {error}") from error
    if not proto.model_checkpoint_path:
        raise CorruptData(STATE_FILE, "it does not say which checkpoint is the latest (model_checkpoint_path)")
    paths, timestamps = proto.all_model_checkpoint_paths, proto.all_model_checkpoint_timestamps
    if timestamps and len(timestamps) != len(paths):
        raise CorruptData(STATE_FILE, f"it has {len(timestamps)} timestamps for {len(paths)} checkpoints")
    return CheckpointState(
        model_checkpoint_path=proto.model_checkpoint_path,
        all_model_checkpoint_paths=tuple(paths),
        all_model_checkpoint_timestamps=tuple(timestamps),
        last_preserved_timestamp=proto.last_preserved_timestamp or None,
    )
