from octo.conformance.v1 import service_pb2 as _service_pb2
from octo.wire.v1 import head_pb2 as _head_pb2
from octo.wire.v1 import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Path(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PATH_UNSPECIFIED: _ClassVar[Path]
    PATH_MESH: _ClassVar[Path]
    PATH_DIRECT: _ClassVar[Path]
PATH_UNSPECIFIED: Path
PATH_MESH: Path
PATH_DIRECT: Path

class Command(_message.Message):
    __slots__ = ("id", "start_server", "stop_server", "connect", "run_call", "signal", "get_stats", "run_batch")
    ID_FIELD_NUMBER: _ClassVar[int]
    START_SERVER_FIELD_NUMBER: _ClassVar[int]
    STOP_SERVER_FIELD_NUMBER: _ClassVar[int]
    CONNECT_FIELD_NUMBER: _ClassVar[int]
    RUN_CALL_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    GET_STATS_FIELD_NUMBER: _ClassVar[int]
    RUN_BATCH_FIELD_NUMBER: _ClassVar[int]
    id: int
    start_server: StartServer
    stop_server: StopServer
    connect: Connect
    run_call: RunCall
    signal: Signal
    get_stats: GetStats
    run_batch: RunBatch
    def __init__(self, id: _Optional[int] = ..., start_server: _Optional[_Union[StartServer, _Mapping]] = ..., stop_server: _Optional[_Union[StopServer, _Mapping]] = ..., connect: _Optional[_Union[Connect, _Mapping]] = ..., run_call: _Optional[_Union[RunCall, _Mapping]] = ..., signal: _Optional[_Union[Signal, _Mapping]] = ..., get_stats: _Optional[_Union[GetStats, _Mapping]] = ..., run_batch: _Optional[_Union[RunBatch, _Mapping]] = ...) -> None: ...

class Report(_message.Message):
    __slots__ = ("id", "hello", "started", "done", "call_result", "stats", "batch_result", "failure")
    ID_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    CALL_RESULT_FIELD_NUMBER: _ClassVar[int]
    STATS_FIELD_NUMBER: _ClassVar[int]
    BATCH_RESULT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    id: int
    hello: Hello
    started: Started
    done: Done
    call_result: CallResult
    stats: Stats
    batch_result: BatchResult
    failure: str
    def __init__(self, id: _Optional[int] = ..., hello: _Optional[_Union[Hello, _Mapping]] = ..., started: _Optional[_Union[Started, _Mapping]] = ..., done: _Optional[_Union[Done, _Mapping]] = ..., call_result: _Optional[_Union[CallResult, _Mapping]] = ..., stats: _Optional[_Union[Stats, _Mapping]] = ..., batch_result: _Optional[_Union[BatchResult, _Mapping]] = ..., failure: _Optional[str] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("control_version", "language", "sdk_version", "protocol_min", "protocol_max")
    CONTROL_VERSION_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    SDK_VERSION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_MIN_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_MAX_FIELD_NUMBER: _ClassVar[int]
    control_version: int
    language: str
    sdk_version: str
    protocol_min: int
    protocol_max: int
    def __init__(self, control_version: _Optional[int] = ..., language: _Optional[str] = ..., sdk_version: _Optional[str] = ..., protocol_min: _Optional[int] = ..., protocol_max: _Optional[int] = ...) -> None: ...

class StartServer(_message.Message):
    __slots__ = ("name", "target", "environment", "socket", "listen", "ledger", "tls", "registration")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    SOCKET_FIELD_NUMBER: _ClassVar[int]
    LISTEN_FIELD_NUMBER: _ClassVar[int]
    LEDGER_FIELD_NUMBER: _ClassVar[int]
    TLS_FIELD_NUMBER: _ClassVar[int]
    REGISTRATION_FIELD_NUMBER: _ClassVar[int]
    name: str
    target: str
    environment: str
    socket: str
    listen: str
    ledger: str
    tls: Tls
    registration: Registration
    def __init__(self, name: _Optional[str] = ..., target: _Optional[str] = ..., environment: _Optional[str] = ..., socket: _Optional[str] = ..., listen: _Optional[str] = ..., ledger: _Optional[str] = ..., tls: _Optional[_Union[Tls, _Mapping]] = ..., registration: _Optional[_Union[Registration, _Mapping]] = ...) -> None: ...

class Registration(_message.Message):
    __slots__ = ("directories", "zone", "weight", "tags")
    class TagsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    DIRECTORIES_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    directories: _containers.RepeatedScalarFieldContainer[str]
    zone: str
    weight: int
    tags: _containers.ScalarMap[str, str]
    def __init__(self, directories: _Optional[_Iterable[str]] = ..., zone: _Optional[str] = ..., weight: _Optional[int] = ..., tags: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Tls(_message.Message):
    __slots__ = ("certificate", "key", "authorities", "peer")
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    AUTHORITIES_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    certificate: str
    key: str
    authorities: str
    peer: str
    def __init__(self, certificate: _Optional[str] = ..., key: _Optional[str] = ..., authorities: _Optional[str] = ..., peer: _Optional[str] = ...) -> None: ...

class Started(_message.Message):
    __slots__ = ("address",)
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    address: str
    def __init__(self, address: _Optional[str] = ...) -> None: ...

class StopServer(_message.Message):
    __slots__ = ("name", "drain_ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DRAIN_MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    drain_ms: int
    def __init__(self, name: _Optional[str] = ..., drain_ms: _Optional[int] = ...) -> None: ...

class Done(_message.Message):
    __slots__ = ("cut",)
    CUT_FIELD_NUMBER: _ClassVar[int]
    cut: bool
    def __init__(self, cut: bool = ...) -> None: ...

class Connect(_message.Message):
    __slots__ = ("channel", "target", "environment", "application", "socket", "direct", "tls", "ways")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    APPLICATION_FIELD_NUMBER: _ClassVar[int]
    SOCKET_FIELD_NUMBER: _ClassVar[int]
    DIRECT_FIELD_NUMBER: _ClassVar[int]
    TLS_FIELD_NUMBER: _ClassVar[int]
    WAYS_FIELD_NUMBER: _ClassVar[int]
    channel: str
    target: str
    environment: str
    application: str
    socket: str
    direct: str
    tls: Tls
    ways: Ways
    def __init__(self, channel: _Optional[str] = ..., target: _Optional[str] = ..., environment: _Optional[str] = ..., application: _Optional[str] = ..., socket: _Optional[str] = ..., direct: _Optional[str] = ..., tls: _Optional[_Union[Tls, _Mapping]] = ..., ways: _Optional[_Union[Ways, _Mapping]] = ...) -> None: ...

class Ways(_message.Message):
    __slots__ = ("socket", "direct", "directories", "state", "switch_file", "permille", "no_fallback", "zone")
    SOCKET_FIELD_NUMBER: _ClassVar[int]
    DIRECT_FIELD_NUMBER: _ClassVar[int]
    DIRECTORIES_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SWITCH_FILE_FIELD_NUMBER: _ClassVar[int]
    PERMILLE_FIELD_NUMBER: _ClassVar[int]
    NO_FALLBACK_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    socket: str
    direct: _containers.RepeatedScalarFieldContainer[str]
    directories: _containers.RepeatedScalarFieldContainer[str]
    state: str
    switch_file: str
    permille: int
    no_fallback: bool
    zone: str
    def __init__(self, socket: _Optional[str] = ..., direct: _Optional[_Iterable[str]] = ..., directories: _Optional[_Iterable[str]] = ..., state: _Optional[str] = ..., switch_file: _Optional[str] = ..., permille: _Optional[int] = ..., no_fallback: bool = ..., zone: _Optional[str] = ...) -> None: ...

class RunCall(_message.Message):
    __slots__ = ("channel", "service", "method", "kind", "requests", "unknown_fields", "options", "call_id", "response")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_FIELDS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    channel: str
    service: str
    method: str
    kind: _head_pb2.CallKind
    requests: _containers.RepeatedCompositeFieldContainer[_service_pb2.Payload]
    unknown_fields: bytes
    options: CallOptions
    call_id: str
    response: _service_pb2.ResponseDefinition
    def __init__(self, channel: _Optional[str] = ..., service: _Optional[str] = ..., method: _Optional[str] = ..., kind: _Optional[_Union[_head_pb2.CallKind, str]] = ..., requests: _Optional[_Iterable[_Union[_service_pb2.Payload, _Mapping]]] = ..., unknown_fields: _Optional[bytes] = ..., options: _Optional[_Union[CallOptions, _Mapping]] = ..., call_id: _Optional[str] = ..., response: _Optional[_Union[_service_pb2.ResponseDefinition, _Mapping]] = ...) -> None: ...

class RunBatch(_message.Message):
    __slots__ = ("call", "calls", "in_flight", "vary")
    CALL_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    VARY_FIELD_NUMBER: _ClassVar[int]
    call: RunCall
    calls: int
    in_flight: int
    vary: Vary
    def __init__(self, call: _Optional[_Union[RunCall, _Mapping]] = ..., calls: _Optional[int] = ..., in_flight: _Optional[int] = ..., vary: _Optional[_Union[Vary, _Mapping]] = ...) -> None: ...

class Vary(_message.Message):
    __slots__ = ("what", "values")
    class What(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        WHAT_UNSPECIFIED: _ClassVar[Vary.What]
        WHAT_HASH_KEY: _ClassVar[Vary.What]
        WHAT_METADATA: _ClassVar[Vary.What]
    WHAT_UNSPECIFIED: Vary.What
    WHAT_HASH_KEY: Vary.What
    WHAT_METADATA: Vary.What
    WHAT_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    what: Vary.What
    values: int
    def __init__(self, what: _Optional[_Union[Vary.What, str]] = ..., values: _Optional[int] = ...) -> None: ...

class BatchResult(_message.Message):
    __slots__ = ("calls", "failed", "min_us", "p50_us", "p99_us", "mesh", "direct", "mesh_by_thousand", "mesh_values", "direct_values")
    CALLS_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    MIN_US_FIELD_NUMBER: _ClassVar[int]
    P50_US_FIELD_NUMBER: _ClassVar[int]
    P99_US_FIELD_NUMBER: _ClassVar[int]
    MESH_FIELD_NUMBER: _ClassVar[int]
    DIRECT_FIELD_NUMBER: _ClassVar[int]
    MESH_BY_THOUSAND_FIELD_NUMBER: _ClassVar[int]
    MESH_VALUES_FIELD_NUMBER: _ClassVar[int]
    DIRECT_VALUES_FIELD_NUMBER: _ClassVar[int]
    calls: int
    failed: _containers.RepeatedCompositeFieldContainer[BatchOutcome]
    min_us: int
    p50_us: int
    p99_us: int
    mesh: int
    direct: int
    mesh_by_thousand: _containers.RepeatedScalarFieldContainer[int]
    mesh_values: _containers.RepeatedScalarFieldContainer[int]
    direct_values: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, calls: _Optional[int] = ..., failed: _Optional[_Iterable[_Union[BatchOutcome, _Mapping]]] = ..., min_us: _Optional[int] = ..., p50_us: _Optional[int] = ..., p99_us: _Optional[int] = ..., mesh: _Optional[int] = ..., direct: _Optional[int] = ..., mesh_by_thousand: _Optional[_Iterable[int]] = ..., mesh_values: _Optional[_Iterable[int]] = ..., direct_values: _Optional[_Iterable[int]] = ...) -> None: ...

class BatchOutcome(_message.Message):
    __slots__ = ("status", "calls")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    status: Outcome
    calls: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, status: _Optional[_Union[Outcome, _Mapping]] = ..., calls: _Optional[_Iterable[int]] = ...) -> None: ...

class CallOptions(_message.Message):
    __slots__ = ("metadata", "baggage", "traceparent", "tracestate", "timeout_us", "compression", "max_receive", "idempotent", "wait_for_ready", "full_duplex", "keep_open", "cancel_after_responses", "pause_after_responses", "cancel_twice", "cancel_after_end", "repeat", "context_deadline", "cancel_before_half_close", "hash_key")
    METADATA_FIELD_NUMBER: _ClassVar[int]
    BAGGAGE_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    TRACESTATE_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_US_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_FIELD_NUMBER: _ClassVar[int]
    MAX_RECEIVE_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENT_FIELD_NUMBER: _ClassVar[int]
    WAIT_FOR_READY_FIELD_NUMBER: _ClassVar[int]
    FULL_DUPLEX_FIELD_NUMBER: _ClassVar[int]
    KEEP_OPEN_FIELD_NUMBER: _ClassVar[int]
    CANCEL_AFTER_RESPONSES_FIELD_NUMBER: _ClassVar[int]
    PAUSE_AFTER_RESPONSES_FIELD_NUMBER: _ClassVar[int]
    CANCEL_TWICE_FIELD_NUMBER: _ClassVar[int]
    CANCEL_AFTER_END_FIELD_NUMBER: _ClassVar[int]
    REPEAT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_DEADLINE_FIELD_NUMBER: _ClassVar[int]
    CANCEL_BEFORE_HALF_CLOSE_FIELD_NUMBER: _ClassVar[int]
    HASH_KEY_FIELD_NUMBER: _ClassVar[int]
    metadata: _containers.RepeatedCompositeFieldContainer[_service_pb2.Entry]
    baggage: _containers.RepeatedCompositeFieldContainer[_service_pb2.Entry]
    traceparent: str
    tracestate: str
    timeout_us: int
    compression: str
    max_receive: int
    idempotent: bool
    wait_for_ready: bool
    full_duplex: bool
    keep_open: bool
    cancel_after_responses: int
    pause_after_responses: int
    cancel_twice: bool
    cancel_after_end: bool
    repeat: int
    context_deadline: bool
    cancel_before_half_close: bool
    hash_key: str
    def __init__(self, metadata: _Optional[_Iterable[_Union[_service_pb2.Entry, _Mapping]]] = ..., baggage: _Optional[_Iterable[_Union[_service_pb2.Entry, _Mapping]]] = ..., traceparent: _Optional[str] = ..., tracestate: _Optional[str] = ..., timeout_us: _Optional[int] = ..., compression: _Optional[str] = ..., max_receive: _Optional[int] = ..., idempotent: bool = ..., wait_for_ready: bool = ..., full_duplex: bool = ..., keep_open: bool = ..., cancel_after_responses: _Optional[int] = ..., pause_after_responses: _Optional[int] = ..., cancel_twice: bool = ..., cancel_after_end: bool = ..., repeat: _Optional[int] = ..., context_deadline: bool = ..., cancel_before_half_close: bool = ..., hash_key: _Optional[str] = ...) -> None: ...

class Signal(_message.Message):
    __slots__ = ("call_id", "kind")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Signal.Kind]
        KIND_CANCEL: _ClassVar[Signal.Kind]
        KIND_RESUME: _ClassVar[Signal.Kind]
        KIND_RELEASE: _ClassVar[Signal.Kind]
        KIND_FINISH: _ClassVar[Signal.Kind]
    KIND_UNSPECIFIED: Signal.Kind
    KIND_CANCEL: Signal.Kind
    KIND_RESUME: Signal.Kind
    KIND_RELEASE: Signal.Kind
    KIND_FINISH: Signal.Kind
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    call_id: str
    kind: Signal.Kind
    def __init__(self, call_id: _Optional[str] = ..., kind: _Optional[_Union[Signal.Kind, str]] = ...) -> None: ...

class CallResult(_message.Message):
    __slots__ = ("headers", "responses", "status", "trailers", "unsent", "elapsed_us", "path")
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    TRAILERS_FIELD_NUMBER: _ClassVar[int]
    UNSENT_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_US_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    headers: _containers.RepeatedCompositeFieldContainer[_service_pb2.Entry]
    responses: _containers.RepeatedCompositeFieldContainer[Received]
    status: Outcome
    trailers: _containers.RepeatedCompositeFieldContainer[_service_pb2.Entry]
    unsent: int
    elapsed_us: int
    path: Path
    def __init__(self, headers: _Optional[_Iterable[_Union[_service_pb2.Entry, _Mapping]]] = ..., responses: _Optional[_Iterable[_Union[Received, _Mapping]]] = ..., status: _Optional[_Union[Outcome, _Mapping]] = ..., trailers: _Optional[_Iterable[_Union[_service_pb2.Entry, _Mapping]]] = ..., unsent: _Optional[int] = ..., elapsed_us: _Optional[int] = ..., path: _Optional[_Union[Path, str]] = ...) -> None: ...

class Received(_message.Message):
    __slots__ = ("data", "size", "sha256", "unknown_fields")
    DATA_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_FIELDS_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    size: int
    sha256: bytes
    unknown_fields: bytes
    def __init__(self, data: _Optional[bytes] = ..., size: _Optional[int] = ..., sha256: _Optional[bytes] = ..., unknown_fields: _Optional[bytes] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("code", "reason", "origin", "disposition", "message", "details", "accepted_encodings", "native")
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    DISPOSITION_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_ENCODINGS_FIELD_NUMBER: _ClassVar[int]
    NATIVE_FIELD_NUMBER: _ClassVar[int]
    code: int
    reason: _status_pb2.Reason
    origin: _status_pb2.Origin
    disposition: _status_pb2.Disposition
    message: str
    details: _containers.RepeatedCompositeFieldContainer[_service_pb2.Detail]
    accepted_encodings: _containers.RepeatedScalarFieldContainer[str]
    native: bool
    def __init__(self, code: _Optional[int] = ..., reason: _Optional[_Union[_status_pb2.Reason, str]] = ..., origin: _Optional[_Union[_status_pb2.Origin, str]] = ..., disposition: _Optional[_Union[_status_pb2.Disposition, str]] = ..., message: _Optional[str] = ..., details: _Optional[_Iterable[_Union[_service_pb2.Detail, _Mapping]]] = ..., accepted_encodings: _Optional[_Iterable[str]] = ..., native: bool = ...) -> None: ...

class GetStats(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Stats(_message.Message):
    __slots__ = ("handlers", "calls")
    HANDLERS_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    handlers: int
    calls: int
    def __init__(self, handlers: _Optional[int] = ..., calls: _Optional[int] = ...) -> None: ...
