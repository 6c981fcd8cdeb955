"""What is known of one call at its server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from octomesh._clock import Alarm
from octomesh._handling.endpoint import Endpoint
from octomesh._wire.inbox import Inbox
from octomesh._wire.proto import Entry
from octomesh._wire.stream import Stream
from octomesh.context import ServerContext
from octomesh.errors import RpcError
from octomesh.timings import Times

if TYPE_CHECKING:
    from octomesh.server import ServerLink


class CallState(Stream):
    """One call at its server."""

    __slots__ = (
        "_begun",
        "_credit",
        "_expired",
        "_inbox",
        "_link",
        "_news",
        "_over",
        "_refused",
        "_task",
        "_times",
        "_wants_gzip",
        "alarm",
        "context",
        "encoding",
        "entry",
        "headers",
        "headers_sent",
        "trailers",
    )

    entry: Endpoint
    context: ServerContext

    def __init__(self, link: ServerLink) -> None:
        self._link = link
        self._task: asyncio.Task[None] | None = None
        self._inbox: Inbox | None = None
        self._news: asyncio.Future[None] | None = None
        self._credit: asyncio.Future[None] | None = None
        self._over = False
        self._begun = False
        self._expired = False
        self._refused: RpcError | None = None
        self._times: Times | None = None
        self._wants_gzip = False
        self.alarm: Alarm | None = None
        self.encoding = b""
        self.headers: list[Entry] = []
        self.trailers: list[Entry] = []
        self.headers_sent = False
