"""The calls to a Directory. Interceptors and deadlines of users do not see them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, Final, TypeVar

from octo.directory.v1 import directory_pb2 as pb
from octomesh._decide.registration import Ended
from octomesh._generated import Kind, Method
from octomesh._wire.status import Reason
from octomesh.errors import Code, RpcError

T = TypeVar("T")

_SERVICE: Final = "octo.directory.v1.Directory"
WATCH: Final = Method(_SERVICE, "Watch", Kind.SERVER_STREAMING, pb.WatchRequest, pb.WatchResponse)
REGISTER: Final = Method(_SERVICE, "Register", Kind.BIDI_STREAMING, pb.RegisterRequest, pb.RegisterResponse)
REPORT: Final = Method(_SERVICE, "Report", Kind.UNARY, pb.ReportRequest, pb.ReportResponse, idempotent=True)

_FOR_NOW: Final = (Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED, Code.DEADLINE_EXCEEDED, Code.CANCELLED)


def how_ended(error: RpcError) -> Ended:
    """Tell whether coming again soon makes sense."""
    if error.reason == Reason.PROXY_DRAINING:
        return Ended.MOVED
    return Ended.LOST if error.code in _FOR_NOW else Ended.REFUSED


def apart(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Run what outlives the call that wanted it, without what that call hands down: deadline, trace, baggage."""
    return loop.create_task(work, context=Context())
