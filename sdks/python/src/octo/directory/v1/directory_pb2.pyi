from octo.options.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WatchRequest(_message.Message):
    __slots__ = ("environment", "target", "application", "node", "features", "runtime")
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    APPLICATION_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    environment: str
    target: str
    application: str
    node: str
    features: _containers.RepeatedScalarFieldContainer[str]
    runtime: str
    def __init__(self, environment: _Optional[str] = ..., target: _Optional[str] = ..., application: _Optional[str] = ..., node: _Optional[str] = ..., features: _Optional[_Iterable[str]] = ..., runtime: _Optional[str] = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("environment", "target", "state", "deleted_reason", "source", "age_ms", "stale", "endpoints", "endpoints_revision", "mesh_switch", "direct_forbidden")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNKNOWN: _ClassVar[WatchResponse.State]
        STATE_PRESENT: _ClassVar[WatchResponse.State]
        STATE_DELETED: _ClassVar[WatchResponse.State]
    STATE_UNKNOWN: WatchResponse.State
    STATE_PRESENT: WatchResponse.State
    STATE_DELETED: WatchResponse.State
    class Source(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SOURCE_UNSPECIFIED: _ClassVar[WatchResponse.Source]
        SOURCE_PROXY: _ClassVar[WatchResponse.Source]
        SOURCE_CONTROL_PLANE: _ClassVar[WatchResponse.Source]
        SOURCE_DISK: _ClassVar[WatchResponse.Source]
    SOURCE_UNSPECIFIED: WatchResponse.Source
    SOURCE_PROXY: WatchResponse.Source
    SOURCE_CONTROL_PLANE: WatchResponse.Source
    SOURCE_DISK: WatchResponse.Source
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DELETED_REASON_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    AGE_MS_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    ENDPOINTS_REVISION_FIELD_NUMBER: _ClassVar[int]
    MESH_SWITCH_FIELD_NUMBER: _ClassVar[int]
    DIRECT_FORBIDDEN_FIELD_NUMBER: _ClassVar[int]
    environment: str
    target: str
    state: WatchResponse.State
    deleted_reason: str
    source: WatchResponse.Source
    age_ms: int
    stale: bool
    endpoints: _containers.RepeatedCompositeFieldContainer[Endpoint]
    endpoints_revision: int
    mesh_switch: MeshSwitch
    direct_forbidden: bool
    def __init__(self, environment: _Optional[str] = ..., target: _Optional[str] = ..., state: _Optional[_Union[WatchResponse.State, str]] = ..., deleted_reason: _Optional[str] = ..., source: _Optional[_Union[WatchResponse.Source, str]] = ..., age_ms: _Optional[int] = ..., stale: bool = ..., endpoints: _Optional[_Iterable[_Union[Endpoint, _Mapping]]] = ..., endpoints_revision: _Optional[int] = ..., mesh_switch: _Optional[_Union[MeshSwitch, _Mapping]] = ..., direct_forbidden: bool = ...) -> None: ...

class Endpoint(_message.Message):
    __slots__ = ("instance", "incarnation", "direct_address", "weight", "zone", "tags", "disabled", "direct_healthy", "tls_identity")
    class TagsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    DIRECT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    DISABLED_FIELD_NUMBER: _ClassVar[int]
    DIRECT_HEALTHY_FIELD_NUMBER: _ClassVar[int]
    TLS_IDENTITY_FIELD_NUMBER: _ClassVar[int]
    instance: str
    incarnation: int
    direct_address: str
    weight: int
    zone: str
    tags: _containers.ScalarMap[str, str]
    disabled: bool
    direct_healthy: bool
    tls_identity: str
    def __init__(self, instance: _Optional[str] = ..., incarnation: _Optional[int] = ..., direct_address: _Optional[str] = ..., weight: _Optional[int] = ..., zone: _Optional[str] = ..., tags: _Optional[_Mapping[str, str]] = ..., disabled: bool = ..., direct_healthy: bool = ..., tls_identity: _Optional[str] = ...) -> None: ...

class MeshSwitch(_message.Message):
    __slots__ = ("permille", "revision")
    PERMILLE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    permille: int
    revision: int
    def __init__(self, permille: _Optional[int] = ..., revision: _Optional[int] = ...) -> None: ...

class RegisterRequest(_message.Message):
    __slots__ = ("environment", "application", "instance", "incarnation", "targets", "direct_address", "weight", "zone", "tags", "deregister")
    class TagsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    APPLICATION_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    DIRECT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    DEREGISTER_FIELD_NUMBER: _ClassVar[int]
    environment: str
    application: str
    instance: str
    incarnation: int
    targets: _containers.RepeatedScalarFieldContainer[str]
    direct_address: str
    weight: int
    zone: str
    tags: _containers.ScalarMap[str, str]
    deregister: bool
    def __init__(self, environment: _Optional[str] = ..., application: _Optional[str] = ..., instance: _Optional[str] = ..., incarnation: _Optional[int] = ..., targets: _Optional[_Iterable[str]] = ..., direct_address: _Optional[str] = ..., weight: _Optional[int] = ..., zone: _Optional[str] = ..., tags: _Optional[_Mapping[str, str]] = ..., deregister: bool = ...) -> None: ...

class RegisterResponse(_message.Message):
    __slots__ = ("state", "reason")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[RegisterResponse.State]
        STATE_PUBLISHED: _ClassVar[RegisterResponse.State]
        STATE_PENDING: _ClassVar[RegisterResponse.State]
        STATE_SUPERSEDED: _ClassVar[RegisterResponse.State]
        STATE_WITHDRAWN: _ClassVar[RegisterResponse.State]
    STATE_UNSPECIFIED: RegisterResponse.State
    STATE_PUBLISHED: RegisterResponse.State
    STATE_PENDING: RegisterResponse.State
    STATE_SUPERSEDED: RegisterResponse.State
    STATE_WITHDRAWN: RegisterResponse.State
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    state: RegisterResponse.State
    reason: str
    def __init__(self, state: _Optional[_Union[RegisterResponse.State, str]] = ..., reason: _Optional[str] = ...) -> None: ...

class ReportRequest(_message.Message):
    __slots__ = ("environment", "application", "instance", "incarnation", "paths")
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    APPLICATION_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    PATHS_FIELD_NUMBER: _ClassVar[int]
    environment: str
    application: str
    instance: str
    incarnation: int
    paths: _containers.RepeatedCompositeFieldContainer[PathReport]
    def __init__(self, environment: _Optional[str] = ..., application: _Optional[str] = ..., instance: _Optional[str] = ..., incarnation: _Optional[int] = ..., paths: _Optional[_Iterable[_Union[PathReport, _Mapping]]] = ...) -> None: ...

class PathReport(_message.Message):
    __slots__ = ("target", "path", "calls", "saved_by_fallback", "errors", "latency_buckets")
    class Path(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        PATH_UNSPECIFIED: _ClassVar[PathReport.Path]
        PATH_MESH: _ClassVar[PathReport.Path]
        PATH_DIRECT: _ClassVar[PathReport.Path]
    PATH_UNSPECIFIED: PathReport.Path
    PATH_MESH: PathReport.Path
    PATH_DIRECT: PathReport.Path
    TARGET_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    SAVED_BY_FALLBACK_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    LATENCY_BUCKETS_FIELD_NUMBER: _ClassVar[int]
    target: str
    path: PathReport.Path
    calls: int
    saved_by_fallback: int
    errors: _containers.RepeatedCompositeFieldContainer[ErrorCount]
    latency_buckets: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, target: _Optional[str] = ..., path: _Optional[_Union[PathReport.Path, str]] = ..., calls: _Optional[int] = ..., saved_by_fallback: _Optional[int] = ..., errors: _Optional[_Iterable[_Union[ErrorCount, _Mapping]]] = ..., latency_buckets: _Optional[_Iterable[int]] = ...) -> None: ...

class ErrorCount(_message.Message):
    __slots__ = ("code", "origin", "count")
    CODE_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    code: int
    origin: int
    count: int
    def __init__(self, code: _Optional[int] = ..., origin: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class ReportResponse(_message.Message):
    __slots__ = ("interval_ms",)
    INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    interval_ms: int
    def __init__(self, interval_ms: _Optional[int] = ...) -> None: ...

class Saved(_message.Message):
    __slots__ = ("written_unix_ms", "application", "snapshot")
    WRITTEN_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    APPLICATION_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    written_unix_ms: int
    application: str
    snapshot: WatchResponse
    def __init__(self, written_unix_ms: _Optional[int] = ..., application: _Optional[str] = ..., snapshot: _Optional[_Union[WatchResponse, _Mapping]] = ...) -> None: ...
