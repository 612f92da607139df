from distckpt.rpc.v1 import coordination_pb2 as _coordination_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SaveNowRequest(_message.Message):
    __slots__ = ("reason", "within_s")
    REASON_FIELD_NUMBER: _ClassVar[int]
    WITHIN_S_FIELD_NUMBER: _ClassVar[int]
    reason: str
    within_s: float
    def __init__(self, reason: _Optional[str] = ..., within_s: _Optional[float] = ...) -> None: ...

class SaveNowReply(_message.Message):
    __slots__ = ("name", "step", "cause")
    NAME_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    name: str
    step: int
    cause: _coordination_pb2.Cause
    def __init__(self, name: _Optional[str] = ..., step: _Optional[int] = ..., cause: _Optional[_Union[_coordination_pb2.Cause, _Mapping]] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusReply(_message.Message):
    __slots__ = ("job", "generation", "world_size", "present")
    JOB_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    WORLD_SIZE_FIELD_NUMBER: _ClassVar[int]
    PRESENT_FIELD_NUMBER: _ClassVar[int]
    job: str
    generation: int
    world_size: int
    present: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, job: _Optional[str] = ..., generation: _Optional[int] = ..., world_size: _Optional[int] = ..., present: _Optional[_Iterable[int]] = ...) -> None: ...

class PictureRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PictureReply(_message.Message):
    __slots__ = ("json",)
    JSON_FIELD_NUMBER: _ClassVar[int]
    json: bytes
    def __init__(self, json: _Optional[bytes] = ...) -> None: ...
