"""OctoMesh: clients and servers of protobuf services that call each other through the local proxy, or direct."""

from __future__ import annotations

from octomesh._generated import Caller, CallOptions, Kind, Method, Service, SyncCaller, require_gen
from octomesh._settings import VERSION, process_incarnation
from octomesh._ways.config import Endpoint
from octomesh._ways.status import ChannelStatus
from octomesh._ways.target import Path
from octomesh._wire.limits import Limits
from octomesh.channel import CallInfo, Channel
from octomesh.context import Peer, ServerContext, trace_context
from octomesh.errors import Code, DeadlineExceededError, Disposition, Origin, Reason, RpcError
from octomesh.inprocess import in_process
from octomesh.interceptors import Call, Interceptor, Next
from octomesh.registration import Registration, RegistrationPhase, RegistrationStatus
from octomesh.server import Server
from octomesh.streams import BidiStream, CallEndedError, ReceiveStream, SendStream
from octomesh.sync import SyncBidiStream, SyncChannel, SyncReceiveStream, SyncSendStream
from octomesh.timings import Stage, StageKind, Timings
from octomesh.tls import TLS

__version__ = VERSION

__all__ = [
    "TLS",
    "BidiStream",
    "Call",
    "CallEndedError",
    "CallInfo",
    "CallOptions",
    "Caller",
    "Channel",
    "ChannelStatus",
    "Code",
    "DeadlineExceededError",
    "Disposition",
    "Endpoint",
    "Interceptor",
    "Kind",
    "Limits",
    "Method",
    "Next",
    "Origin",
    "Path",
    "Peer",
    "Reason",
    "ReceiveStream",
    "Registration",
    "RegistrationPhase",
    "RegistrationStatus",
    "RpcError",
    "SendStream",
    "Server",
    "ServerContext",
    "Service",
    "Stage",
    "StageKind",
    "SyncBidiStream",
    "SyncCaller",
    "SyncChannel",
    "SyncReceiveStream",
    "SyncSendStream",
    "Timings",
    "in_process",
    "process_incarnation",
    "require_gen",
    "trace_context",
]
