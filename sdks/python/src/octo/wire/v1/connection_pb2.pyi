from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_UNSPECIFIED: _ClassVar[Role]
    ROLE_CALL: _ClassVar[Role]
    ROLE_SERVE: _ClassVar[Role]

class PeerKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PEER_KIND_UNSPECIFIED: _ClassVar[PeerKind]
    PEER_KIND_SDK: _ClassVar[PeerKind]
    PEER_KIND_PROXY: _ClassVar[PeerKind]
    PEER_KIND_GATEWAY: _ClassVar[PeerKind]

class GoAwayCode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GO_AWAY_CODE_UNSPECIFIED: _ClassVar[GoAwayCode]
    GO_AWAY_CODE_DRAINING: _ClassVar[GoAwayCode]
    GO_AWAY_CODE_ID_EXHAUSTED: _ClassVar[GoAwayCode]
    GO_AWAY_CODE_PROTOCOL_ERROR: _ClassVar[GoAwayCode]
    GO_AWAY_CODE_ENHANCE_YOUR_CALM: _ClassVar[GoAwayCode]
    GO_AWAY_CODE_REFUSED: _ClassVar[GoAwayCode]
ROLE_UNSPECIFIED: Role
ROLE_CALL: Role
ROLE_SERVE: Role
PEER_KIND_UNSPECIFIED: PeerKind
PEER_KIND_SDK: PeerKind
PEER_KIND_PROXY: PeerKind
PEER_KIND_GATEWAY: PeerKind
GO_AWAY_CODE_UNSPECIFIED: GoAwayCode
GO_AWAY_CODE_DRAINING: GoAwayCode
GO_AWAY_CODE_ID_EXHAUSTED: GoAwayCode
GO_AWAY_CODE_PROTOCOL_ERROR: GoAwayCode
GO_AWAY_CODE_ENHANCE_YOUR_CALM: GoAwayCode
GO_AWAY_CODE_REFUSED: GoAwayCode

class Limits(_message.Message):
    __slots__ = ("max_streams", "stream_window", "max_frame_body")
    MAX_STREAMS_FIELD_NUMBER: _ClassVar[int]
    STREAM_WINDOW_FIELD_NUMBER: _ClassVar[int]
    MAX_FRAME_BODY_FIELD_NUMBER: _ClassVar[int]
    max_streams: int
    stream_window: int
    max_frame_body: int
    def __init__(self, max_streams: _Optional[int] = ..., stream_window: _Optional[int] = ..., max_frame_body: _Optional[int] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("lowest_version", "highest_version", "role", "kind", "sdk", "sdk_version", "environment", "application", "instance", "incarnation", "targets", "limits", "features", "credentials")
    LOWEST_VERSION_FIELD_NUMBER: _ClassVar[int]
    HIGHEST_VERSION_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SDK_FIELD_NUMBER: _ClassVar[int]
    SDK_VERSION_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    APPLICATION_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    CREDENTIALS_FIELD_NUMBER: _ClassVar[int]
    lowest_version: int
    highest_version: int
    role: Role
    kind: PeerKind
    sdk: bytes
    sdk_version: bytes
    environment: bytes
    application: bytes
    instance: bytes
    incarnation: int
    targets: _containers.RepeatedScalarFieldContainer[bytes]
    limits: Limits
    features: _containers.RepeatedScalarFieldContainer[bytes]
    credentials: bytes
    def __init__(self, lowest_version: _Optional[int] = ..., highest_version: _Optional[int] = ..., role: _Optional[_Union[Role, str]] = ..., kind: _Optional[_Union[PeerKind, str]] = ..., sdk: _Optional[bytes] = ..., sdk_version: _Optional[bytes] = ..., environment: _Optional[bytes] = ..., application: _Optional[bytes] = ..., instance: _Optional[bytes] = ..., incarnation: _Optional[int] = ..., targets: _Optional[_Iterable[bytes]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., features: _Optional[_Iterable[bytes]] = ..., credentials: _Optional[bytes] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("version", "kind", "instance", "incarnation", "limits", "features", "software_version")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_VERSION_FIELD_NUMBER: _ClassVar[int]
    version: int
    kind: PeerKind
    instance: bytes
    incarnation: int
    limits: Limits
    features: _containers.RepeatedScalarFieldContainer[bytes]
    software_version: bytes
    def __init__(self, version: _Optional[int] = ..., kind: _Optional[_Union[PeerKind, str]] = ..., instance: _Optional[bytes] = ..., incarnation: _Optional[int] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., features: _Optional[_Iterable[bytes]] = ..., software_version: _Optional[bytes] = ...) -> None: ...

class GoAway(_message.Message):
    __slots__ = ("code", "last", "final", "message", "offset", "retry_after_ms")
    CODE_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    FINAL_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    code: GoAwayCode
    last: int
    final: bool
    message: bytes
    offset: int
    retry_after_ms: int
    def __init__(self, code: _Optional[_Union[GoAwayCode, str]] = ..., last: _Optional[int] = ..., final: bool = ..., message: _Optional[bytes] = ..., offset: _Optional[int] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...
