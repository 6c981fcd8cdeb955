"""What a handler knows of its call, and what goes from it into the calls that it makes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from octomesh._entries import MetadataList, check_entry, shown
from octomesh._wire.limits import ENTRY_OVERHEAD, MAX_METADATA
from octomesh._wire.status import Status, refuse
from octomesh._wire.text import metadata_size, valid_traceparent
from octomesh.errors import Code, Origin, Reason, from_status

if TYPE_CHECKING:
    from octomesh._generated import Method
    from octomesh._handling.call import ServerCall
    from octomesh._wire.heads import RequestHead


@dataclass(frozen=True)
class Peer:
    """Who calls."""

    application: str = ""
    instance: str = ""
    address: str = ""
    """Of the connection's other end; empty on a Unix socket."""
    proxied: bool = False
    """The call came by this server's own proxy."""
    verified: str = ""
    """The caller's SPIFFE id, checked by this server's own proxy or by TLS. All else is the caller's own word."""


class Carried(NamedTuple):
    """What goes down the whole chain of calls."""

    deadline: float | None = None
    """By the loop's clock."""
    traceparent: bytes = b""
    tracestate: bytes = b""
    baggage: tuple[tuple[bytes, bytes], ...] = ()


carried: Final[ContextVar[Carried | None]] = ContextVar("octomesh.carried", default=None)
"""Set while a handler runs, and by those who begin traces or baggage themselves."""


@contextmanager
def trace_context(traceparent: str, tracestate: str = "") -> Iterator[None]:
    """Let calls within go on a W3C trace; one that is not valid is not sent."""
    data = traceparent.encode("ascii", "replace")
    valid = data if valid_traceparent(data) else b""
    down = (carried.get() or Carried())._replace(traceparent=valid, tracestate=tracestate.encode() if valid else b"")
    token = carried.set(down)
    try:
        yield
    finally:
        carried.reset(token)


class ServerContext:
    """One call, as its handler sees it."""

    __slots__ = ("_baggage", "_call", "_head", "_metadata", "_peer", "_traceparent", "deadline")

    def __init__(
        self, call: ServerCall, head: RequestHead, traceparent: bytes, deadline: float | None, peer: Peer
    ) -> None:
        self._call = call
        self._head = head
        self._traceparent = traceparent
        self._peer = peer
        self._metadata: MetadataList | None = None
        self.deadline: Final = deadline
        """When the caller's time is over, by the clock of the loop (`loop.time()`); None: never."""

    @property
    def method(self) -> Method[Any, Any]:
        """The method that is called."""
        return self._call.entry.method

    @property
    def metadata(self) -> MetadataList:
        """The request's metadata: keys and values in their order, bytes under keys that end in `-bin`."""
        if self._metadata is None:
            self._metadata = shown(self._head.metadata)
        return self._metadata

    @property
    def baggage(self) -> MetadataList:
        """What came down the chain of calls; calls of this handler carry it on."""
        return shown(self._head.baggage)

    @property
    def traceparent(self) -> str:
        """The caller's W3C trace context; empty if it has none, or an invalid one."""
        return self._traceparent.decode() if valid_traceparent(self._traceparent) else ""

    @property
    def tracestate(self) -> str:
        """What goes with `traceparent`."""
        return self._head.tracestate.decode("utf-8", "replace") if self.traceparent else ""

    @property
    def peer(self) -> Peer:
        """Who calls."""
        return self._peer

    def time_left(self) -> float | None:
        """Seconds until the deadline, 0 if it has passed; None without one."""
        if self.deadline is None:
            return None
        return max(self.deadline - asyncio.get_running_loop().time(), 0.0)

    def set_header(self, key: str, value: str | bytes) -> None:
        """Add to the response's initial metadata, which goes with its first message, or before it by `send_headers`.

        Raises `RpcError` with FAILED_PRECONDITION where it has gone, INVALID_ARGUMENT for what may not stand there, and
        RESOURCE_EXHAUSTED over 16 KiB.
        """
        if self._call.headers_sent:
            raise from_status(
                Status(Code.FAILED_PRECONDITION, 0, Origin.SERVER_SDK, 0, b"the initial metadata was sent already")
            )
        self._add(self._call.headers, key, value)

    def set_trailer(self, key: str, value: str | bytes) -> None:
        """Add to the metadata that ends the response."""
        self._add(self._call.trailers, key, value)

    def send_headers(self) -> None:
        """Send the initial metadata now. The second time does nothing."""
        self._call.send_headers()

    @staticmethod
    def _add(entries: list[tuple[bytes, bytes]], key: str, value: str | bytes) -> None:
        entry = check_entry(key, value)
        size = metadata_size(entries) + len(entry[0]) + len(entry[1]) + ENTRY_OVERHEAD
        if size > MAX_METADATA:
            raise from_status(refuse(Reason.HEAD_TOO_LARGE, Origin.SERVER_SDK, f"metadata over {MAX_METADATA} bytes"))
        entries.append(entry)
