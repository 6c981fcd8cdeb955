from octo.options.v1 import reason_pb2 as _reason_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Code(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CODE_OK: _ClassVar[Code]
    CODE_CANCELLED: _ClassVar[Code]
    CODE_UNKNOWN: _ClassVar[Code]
    CODE_INVALID_ARGUMENT: _ClassVar[Code]
    CODE_DEADLINE_EXCEEDED: _ClassVar[Code]
    CODE_NOT_FOUND: _ClassVar[Code]
    CODE_ALREADY_EXISTS: _ClassVar[Code]
    CODE_PERMISSION_DENIED: _ClassVar[Code]
    CODE_RESOURCE_EXHAUSTED: _ClassVar[Code]
    CODE_FAILED_PRECONDITION: _ClassVar[Code]
    CODE_ABORTED: _ClassVar[Code]
    CODE_OUT_OF_RANGE: _ClassVar[Code]
    CODE_UNIMPLEMENTED: _ClassVar[Code]
    CODE_INTERNAL: _ClassVar[Code]
    CODE_UNAVAILABLE: _ClassVar[Code]
    CODE_DATA_LOSS: _ClassVar[Code]
    CODE_UNAUTHENTICATED: _ClassVar[Code]

class Origin(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ORIGIN_UNSPECIFIED: _ClassVar[Origin]
    ORIGIN_APPLICATION: _ClassVar[Origin]
    ORIGIN_SERVER_SDK: _ClassVar[Origin]
    ORIGIN_SERVER_PROXY: _ClassVar[Origin]
    ORIGIN_CLIENT_PROXY: _ClassVar[Origin]
    ORIGIN_CLIENT_SDK: _ClassVar[Origin]
    ORIGIN_BRIDGE: _ClassVar[Origin]

class Disposition(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DISPOSITION_UNKNOWN: _ClassVar[Disposition]
    DISPOSITION_NOT_PROCESSED: _ClassVar[Disposition]
    DISPOSITION_PROCESSED: _ClassVar[Disposition]

class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REASON_UNSPECIFIED: _ClassVar[Reason]
    REASON_PROXY_DRAINING: _ClassVar[Reason]
    REASON_PROXY_UNREADY: _ClassVar[Reason]
    REASON_PROXY_UNREACHABLE: _ClassVar[Reason]
    REASON_AUTH_DENIED: _ClassVar[Reason]
    REASON_RATE_LIMITED: _ClassVar[Reason]
    REASON_CIRCUIT_OPEN: _ClassVar[Reason]
    REASON_NO_ENDPOINT: _ClassVar[Reason]
    REASON_QUEUE_FULL: _ClassVar[Reason]
    REASON_OVERLOADED: _ClassVar[Reason]
    REASON_UNKNOWN_TARGET: _ClassVar[Reason]
    REASON_FAULT_INJECTED: _ClassVar[Reason]
    REASON_UNKNOWN_SERVICE: _ClassVar[Reason]
    REASON_UNKNOWN_METHOD: _ClassVar[Reason]
    REASON_BAD_HEAD: _ClassVar[Reason]
    REASON_HEAD_TOO_LARGE: _ClassVar[Reason]
    REASON_MESSAGE_TOO_LARGE: _ClassVar[Reason]
    REASON_UNKNOWN_ENCODING: _ClassVar[Reason]
    REASON_BAD_MESSAGE: _ClassVar[Reason]
    REASON_UNKNOWN_CONTENT_TYPE: _ClassVar[Reason]
    REASON_UNKNOWN_FLAG: _ClassVar[Reason]
    REASON_STREAM_PROTOCOL: _ClassVar[Reason]
    REASON_CONNECTION_LOST: _ClassVar[Reason]
    REASON_DRAIN_DEADLINE: _ClassVar[Reason]
    REASON_DEADLINE: _ClassVar[Reason]
    REASON_CANCELLED: _ClassVar[Reason]
    REASON_HANDLER_CRASHED: _ClassVar[Reason]
CODE_OK: Code
CODE_CANCELLED: Code
CODE_UNKNOWN: Code
CODE_INVALID_ARGUMENT: Code
CODE_DEADLINE_EXCEEDED: Code
CODE_NOT_FOUND: Code
CODE_ALREADY_EXISTS: Code
CODE_PERMISSION_DENIED: Code
CODE_RESOURCE_EXHAUSTED: Code
CODE_FAILED_PRECONDITION: Code
CODE_ABORTED: Code
CODE_OUT_OF_RANGE: Code
CODE_UNIMPLEMENTED: Code
CODE_INTERNAL: Code
CODE_UNAVAILABLE: Code
CODE_DATA_LOSS: Code
CODE_UNAUTHENTICATED: Code
ORIGIN_UNSPECIFIED: Origin
ORIGIN_APPLICATION: Origin
ORIGIN_SERVER_SDK: Origin
ORIGIN_SERVER_PROXY: Origin
ORIGIN_CLIENT_PROXY: Origin
ORIGIN_CLIENT_SDK: Origin
ORIGIN_BRIDGE: Origin
DISPOSITION_UNKNOWN: Disposition
DISPOSITION_NOT_PROCESSED: Disposition
DISPOSITION_PROCESSED: Disposition
REASON_UNSPECIFIED: Reason
REASON_PROXY_DRAINING: Reason
REASON_PROXY_UNREADY: Reason
REASON_PROXY_UNREACHABLE: Reason
REASON_AUTH_DENIED: Reason
REASON_RATE_LIMITED: Reason
REASON_CIRCUIT_OPEN: Reason
REASON_NO_ENDPOINT: Reason
REASON_QUEUE_FULL: Reason
REASON_OVERLOADED: Reason
REASON_UNKNOWN_TARGET: Reason
REASON_FAULT_INJECTED: Reason
REASON_UNKNOWN_SERVICE: Reason
REASON_UNKNOWN_METHOD: Reason
REASON_BAD_HEAD: Reason
REASON_HEAD_TOO_LARGE: Reason
REASON_MESSAGE_TOO_LARGE: Reason
REASON_UNKNOWN_ENCODING: Reason
REASON_BAD_MESSAGE: Reason
REASON_UNKNOWN_CONTENT_TYPE: Reason
REASON_UNKNOWN_FLAG: Reason
REASON_STREAM_PROTOCOL: Reason
REASON_CONNECTION_LOST: Reason
REASON_DRAIN_DEADLINE: Reason
REASON_DEADLINE: Reason
REASON_CANCELLED: Reason
REASON_HANDLER_CRASHED: Reason

class Status(_message.Message):
    __slots__ = ("code", "reason", "message", "details_bin", "origin", "disposition", "retry_after_ms")
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DETAILS_BIN_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    DISPOSITION_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    code: int
    reason: Reason
    message: bytes
    details_bin: bytes
    origin: Origin
    disposition: Disposition
    retry_after_ms: int
    def __init__(self, code: _Optional[int] = ..., reason: _Optional[_Union[Reason, str]] = ..., message: _Optional[bytes] = ..., details_bin: _Optional[bytes] = ..., origin: _Optional[_Union[Origin, str]] = ..., disposition: _Optional[_Union[Disposition, str]] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...
