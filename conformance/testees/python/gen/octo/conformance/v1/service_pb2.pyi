from octo.options.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CallRequest(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class CallResponse(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class Entry(_message.Message):
    __slots__ = ("key", "value", "text", "size")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: bytes
    text: str
    size: int
    def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ..., text: _Optional[str] = ..., size: _Optional[int] = ...) -> None: ...

class Payload(_message.Message):
    __slots__ = ("data", "size", "text", "noise")
    DATA_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    NOISE_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    size: int
    text: str
    noise: int
    def __init__(self, data: _Optional[bytes] = ..., size: _Optional[int] = ..., text: _Optional[str] = ..., noise: _Optional[int] = ...) -> None: ...

class ResponseDefinition(_message.Message):
    __slots__ = ("headers", "early_headers", "responses", "echo", "read", "hold", "ledger_sends", "ledger_request", "trailers", "status", "throw", "hops", "repeat", "at")
    class Hold(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        HOLD_UNSPECIFIED: _ClassVar[ResponseDefinition.Hold]
        HOLD_BEFORE_RESPONSES: _ClassVar[ResponseDefinition.Hold]
        HOLD_AFTER_RESPONSES: _ClassVar[ResponseDefinition.Hold]
    HOLD_UNSPECIFIED: ResponseDefinition.Hold
    HOLD_BEFORE_RESPONSES: ResponseDefinition.Hold
    HOLD_AFTER_RESPONSES: ResponseDefinition.Hold
    class Throw(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        THROW_UNSPECIFIED: _ClassVar[ResponseDefinition.Throw]
        THROW_NATIVE: _ClassVar[ResponseDefinition.Throw]
        THROW_CRASH: _ClassVar[ResponseDefinition.Throw]
    THROW_UNSPECIFIED: ResponseDefinition.Throw
    THROW_NATIVE: ResponseDefinition.Throw
    THROW_CRASH: ResponseDefinition.Throw
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    EARLY_HEADERS_FIELD_NUMBER: _ClassVar[int]
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    ECHO_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    HOLD_FIELD_NUMBER: _ClassVar[int]
    LEDGER_SENDS_FIELD_NUMBER: _ClassVar[int]
    LEDGER_REQUEST_FIELD_NUMBER: _ClassVar[int]
    TRAILERS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    THROW_FIELD_NUMBER: _ClassVar[int]
    HOPS_FIELD_NUMBER: _ClassVar[int]
    REPEAT_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    headers: _containers.RepeatedCompositeFieldContainer[Entry]
    early_headers: bool
    responses: _containers.RepeatedCompositeFieldContainer[Payload]
    echo: bool
    read: int
    hold: ResponseDefinition.Hold
    ledger_sends: bool
    ledger_request: bool
    trailers: _containers.RepeatedCompositeFieldContainer[Entry]
    status: Fault
    throw: ResponseDefinition.Throw
    hops: _containers.RepeatedCompositeFieldContainer[Hop]
    repeat: int
    at: _containers.RepeatedCompositeFieldContainer[ResponseAt]
    def __init__(self, headers: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., early_headers: bool = ..., responses: _Optional[_Iterable[_Union[Payload, _Mapping]]] = ..., echo: bool = ..., read: _Optional[int] = ..., hold: _Optional[_Union[ResponseDefinition.Hold, str]] = ..., ledger_sends: bool = ..., ledger_request: bool = ..., trailers: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., status: _Optional[_Union[Fault, _Mapping]] = ..., throw: _Optional[_Union[ResponseDefinition.Throw, str]] = ..., hops: _Optional[_Iterable[_Union[Hop, _Mapping]]] = ..., repeat: _Optional[int] = ..., at: _Optional[_Iterable[_Union[ResponseAt, _Mapping]]] = ...) -> None: ...

class ResponseAt(_message.Message):
    __slots__ = ("server", "response")
    SERVER_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    server: str
    response: ResponseDefinition
    def __init__(self, server: _Optional[str] = ..., response: _Optional[_Union[ResponseDefinition, _Mapping]] = ...) -> None: ...

class Fault(_message.Message):
    __slots__ = ("code", "message", "details")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    details: _containers.RepeatedCompositeFieldContainer[Detail]
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., details: _Optional[_Iterable[_Union[Detail, _Mapping]]] = ...) -> None: ...

class Detail(_message.Message):
    __slots__ = ("type_url", "value")
    TYPE_URL_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    type_url: str
    value: bytes
    def __init__(self, type_url: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...

class Hop(_message.Message):
    __slots__ = ("channel",)
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    channel: str
    def __init__(self, channel: _Optional[str] = ...) -> None: ...

class LedgerEntry(_message.Message):
    __slots__ = ("call_id", "event", "server", "method", "info", "count")
    class Event(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        EVENT_UNSPECIFIED: _ClassVar[LedgerEntry.Event]
        EVENT_BEGAN: _ClassVar[LedgerEntry.Event]
        EVENT_SENT: _ClassVar[LedgerEntry.Event]
        EVENT_CANCELLED: _ClassVar[LedgerEntry.Event]
        EVENT_ENDED: _ClassVar[LedgerEntry.Event]
        EVENT_HELD: _ClassVar[LedgerEntry.Event]
    EVENT_UNSPECIFIED: LedgerEntry.Event
    EVENT_BEGAN: LedgerEntry.Event
    EVENT_SENT: LedgerEntry.Event
    EVENT_CANCELLED: LedgerEntry.Event
    EVENT_ENDED: LedgerEntry.Event
    EVENT_HELD: LedgerEntry.Event
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    SERVER_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    call_id: str
    event: LedgerEntry.Event
    server: str
    method: str
    info: RequestInfo
    count: int
    def __init__(self, call_id: _Optional[str] = ..., event: _Optional[_Union[LedgerEntry.Event, str]] = ..., server: _Optional[str] = ..., method: _Optional[str] = ..., info: _Optional[_Union[RequestInfo, _Mapping]] = ..., count: _Optional[int] = ...) -> None: ...

class RequestInfo(_message.Message):
    __slots__ = ("metadata", "baggage", "traceparent", "tracestate", "remaining_us", "application", "request", "hops_left", "verified")
    METADATA_FIELD_NUMBER: _ClassVar[int]
    BAGGAGE_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    TRACESTATE_FIELD_NUMBER: _ClassVar[int]
    REMAINING_US_FIELD_NUMBER: _ClassVar[int]
    APPLICATION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    HOPS_LEFT_FIELD_NUMBER: _ClassVar[int]
    VERIFIED_FIELD_NUMBER: _ClassVar[int]
    metadata: _containers.RepeatedCompositeFieldContainer[Entry]
    baggage: _containers.RepeatedCompositeFieldContainer[Entry]
    traceparent: str
    tracestate: str
    remaining_us: int
    application: str
    request: bytes
    hops_left: int
    verified: str
    def __init__(self, metadata: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., baggage: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., traceparent: _Optional[str] = ..., tracestate: _Optional[str] = ..., remaining_us: _Optional[int] = ..., application: _Optional[str] = ..., request: _Optional[bytes] = ..., hops_left: _Optional[int] = ..., verified: _Optional[str] = ...) -> None: ...
