from octo.wire.v1 import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CallKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CALL_KIND_UNSPECIFIED: _ClassVar[CallKind]
    CALL_KIND_UNARY: _ClassVar[CallKind]
    CALL_KIND_CLIENT_STREAM: _ClassVar[CallKind]
    CALL_KIND_SERVER_STREAM: _ClassVar[CallKind]
    CALL_KIND_BIDI_STREAM: _ClassVar[CallKind]
CALL_KIND_UNSPECIFIED: CallKind
CALL_KIND_UNARY: CallKind
CALL_KIND_CLIENT_STREAM: CallKind
CALL_KIND_SERVER_STREAM: CallKind
CALL_KIND_BIDI_STREAM: CallKind

class Entry(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    value: bytes
    def __init__(self, key: _Optional[bytes] = ..., value: _Optional[bytes] = ...) -> None: ...

class RequestHead(_message.Message):
    __slots__ = ("timeout_us", "total_length", "target", "service", "method", "call_kind", "metadata", "traceparent", "tracestate", "baggage", "hash_key", "attempt", "call_id", "idempotent", "message_encoding", "accepted_encodings", "content_type", "authority", "path", "want_timings", "hop_caller", "hop_verified_caller", "hop_attempt", "hop_traceparent", "hop_lane", "hop_target", "hop_shadow")
    TIMEOUT_US_FIELD_NUMBER: _ClassVar[int]
    TOTAL_LENGTH_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    CALL_KIND_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    TRACESTATE_FIELD_NUMBER: _ClassVar[int]
    BAGGAGE_FIELD_NUMBER: _ClassVar[int]
    HASH_KEY_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_ENCODING_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_ENCODINGS_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    WANT_TIMINGS_FIELD_NUMBER: _ClassVar[int]
    HOP_CALLER_FIELD_NUMBER: _ClassVar[int]
    HOP_VERIFIED_CALLER_FIELD_NUMBER: _ClassVar[int]
    HOP_ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    HOP_TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    HOP_LANE_FIELD_NUMBER: _ClassVar[int]
    HOP_TARGET_FIELD_NUMBER: _ClassVar[int]
    HOP_SHADOW_FIELD_NUMBER: _ClassVar[int]
    timeout_us: int
    total_length: int
    target: bytes
    service: bytes
    method: bytes
    call_kind: CallKind
    metadata: _containers.RepeatedCompositeFieldContainer[Entry]
    traceparent: bytes
    tracestate: bytes
    baggage: _containers.RepeatedCompositeFieldContainer[Entry]
    hash_key: bytes
    attempt: int
    call_id: bytes
    idempotent: bool
    message_encoding: bytes
    accepted_encodings: _containers.RepeatedScalarFieldContainer[bytes]
    content_type: bytes
    authority: bytes
    path: bytes
    want_timings: bool
    hop_caller: bytes
    hop_verified_caller: bytes
    hop_attempt: int
    hop_traceparent: bytes
    hop_lane: bytes
    hop_target: bytes
    hop_shadow: bool
    def __init__(self, timeout_us: _Optional[int] = ..., total_length: _Optional[int] = ..., target: _Optional[bytes] = ..., service: _Optional[bytes] = ..., method: _Optional[bytes] = ..., call_kind: _Optional[_Union[CallKind, str]] = ..., metadata: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., traceparent: _Optional[bytes] = ..., tracestate: _Optional[bytes] = ..., baggage: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., hash_key: _Optional[bytes] = ..., attempt: _Optional[int] = ..., call_id: _Optional[bytes] = ..., idempotent: bool = ..., message_encoding: _Optional[bytes] = ..., accepted_encodings: _Optional[_Iterable[bytes]] = ..., content_type: _Optional[bytes] = ..., authority: _Optional[bytes] = ..., path: _Optional[bytes] = ..., want_timings: bool = ..., hop_caller: _Optional[bytes] = ..., hop_verified_caller: _Optional[bytes] = ..., hop_attempt: _Optional[int] = ..., hop_traceparent: _Optional[bytes] = ..., hop_lane: _Optional[bytes] = ..., hop_target: _Optional[bytes] = ..., hop_shadow: bool = ...) -> None: ...

class ResponseHead(_message.Message):
    __slots__ = ("status", "total_length", "message_encoding", "accepted_encodings", "content_type", "headers_present", "metadata", "trailers", "hop_timings")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_LENGTH_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_ENCODING_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_ENCODINGS_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    HEADERS_PRESENT_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    TRAILERS_FIELD_NUMBER: _ClassVar[int]
    HOP_TIMINGS_FIELD_NUMBER: _ClassVar[int]
    status: _status_pb2.Status
    total_length: int
    message_encoding: bytes
    accepted_encodings: _containers.RepeatedScalarFieldContainer[bytes]
    content_type: bytes
    headers_present: bool
    metadata: _containers.RepeatedCompositeFieldContainer[Entry]
    trailers: _containers.RepeatedCompositeFieldContainer[Entry]
    hop_timings: bytes
    def __init__(self, status: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., total_length: _Optional[int] = ..., message_encoding: _Optional[bytes] = ..., accepted_encodings: _Optional[_Iterable[bytes]] = ..., content_type: _Optional[bytes] = ..., headers_present: bool = ..., metadata: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., trailers: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., hop_timings: _Optional[bytes] = ...) -> None: ...

class MessageHead(_message.Message):
    __slots__ = ("total_length",)
    TOTAL_LENGTH_FIELD_NUMBER: _ClassVar[int]
    total_length: int
    def __init__(self, total_length: _Optional[int] = ...) -> None: ...

class Reset(_message.Message):
    __slots__ = ("status", "http2_code")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    HTTP2_CODE_FIELD_NUMBER: _ClassVar[int]
    status: _status_pb2.Status
    http2_code: int
    def __init__(self, status: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., http2_code: _Optional[int] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("stages",)
    class Stage(_message.Message):
        __slots__ = ("kind", "duration_us", "instance")
        class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
            __slots__ = ()
            KIND_UNSPECIFIED: _ClassVar[Timings.Stage.Kind]
            KIND_SDK_QUEUE: _ClassVar[Timings.Stage.Kind]
            KIND_PROXY_REQUEST: _ClassVar[Timings.Stage.Kind]
            KIND_PROXY_RESPONSE: _ClassVar[Timings.Stage.Kind]
            KIND_SERVER_QUEUE: _ClassVar[Timings.Stage.Kind]
            KIND_HANDLER: _ClassVar[Timings.Stage.Kind]
            KIND_LINK: _ClassVar[Timings.Stage.Kind]
            KIND_SERVER_RESPONSE: _ClassVar[Timings.Stage.Kind]
            KIND_SDK_RESPONSE: _ClassVar[Timings.Stage.Kind]
        KIND_UNSPECIFIED: Timings.Stage.Kind
        KIND_SDK_QUEUE: Timings.Stage.Kind
        KIND_PROXY_REQUEST: Timings.Stage.Kind
        KIND_PROXY_RESPONSE: Timings.Stage.Kind
        KIND_SERVER_QUEUE: Timings.Stage.Kind
        KIND_HANDLER: Timings.Stage.Kind
        KIND_LINK: Timings.Stage.Kind
        KIND_SERVER_RESPONSE: Timings.Stage.Kind
        KIND_SDK_RESPONSE: Timings.Stage.Kind
        KIND_FIELD_NUMBER: _ClassVar[int]
        DURATION_US_FIELD_NUMBER: _ClassVar[int]
        INSTANCE_FIELD_NUMBER: _ClassVar[int]
        kind: Timings.Stage.Kind
        duration_us: int
        instance: bytes
        def __init__(self, kind: _Optional[_Union[Timings.Stage.Kind, str]] = ..., duration_us: _Optional[int] = ..., instance: _Optional[bytes] = ...) -> None: ...
    STAGES_FIELD_NUMBER: _ClassVar[int]
    stages: _containers.RepeatedCompositeFieldContainer[Timings.Stage]
    def __init__(self, stages: _Optional[_Iterable[_Union[Timings.Stage, _Mapping]]] = ...) -> None: ...
