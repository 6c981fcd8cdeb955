"""Calls to one target."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from google.protobuf.message import Message

from octomesh._calls import ClientCall, StreamCall, UnaryCall
from octomesh._entries import MetadataList, check_entry, checked
from octomesh._generated import CallOptions, Method, Req, Res
from octomesh._link import RefusedError
from octomesh._peer import ClientLink, Peer, dial, shared_peer
from octomesh._settings import DEFAULT_MAX_RECEIVE, Identity, split_address, unix_path
from octomesh._wire.compression import GZIP, IDENTITY, compress
from octomesh._wire.conn import NotOpenError, StreamLimitError
from octomesh._wire.frame import COMPRESSED, END, MSG
from octomesh._wire.heads import (
    BAGGAGE,
    IDEMPOTENT,
    METADATA,
    call_piece,
    encodings_piece,
    method_piece,
    timeout_piece,
    trace_piece,
)
from octomesh._wire.hello import ROLE_CALL
from octomesh._wire.limits import MAX_BAGGAGE, MAX_METADATA, MAX_SDK_HEAD, UNSET_LIMITS, Limits
from octomesh._wire.proto import entry_fields
from octomesh._wire.status import Origin, Reason
from octomesh._wire.text import baggage_size, metadata_size
from octomesh._wire.timeout import timeout_us
from octomesh.context import Carried, carried
from octomesh.errors import Code, RpcError, bad_call, unsent
from octomesh.interceptors import Call, Interceptor, intercepted
from octomesh.streams import BidiStream, ReceiveStream, SendStream
from octomesh.tls import TLS, Security, over_tcp

_TIMEOUT_SIZE: Final = 9
_TRIES: Final = 8
"""How many connections in a row may leave between the look at them and the call."""
_ACCEPTED: Final = (GZIP,)
"""What is said beside identity, which everybody decodes."""
_USUAL_TRACESTATE: Final = 512
"""Bytes up to which a head surely has room for it."""
_NOTHING: Final = Carried()


class CallInfo:
    """What came with a unary call, filled in at its end: give one as the option `info`."""

    def __init__(self) -> None:
        self.headers: MetadataList = []
        """The response's initial metadata."""
        self.trailers: MetadataList = []
        """The metadata that ended the call, however it ended."""


_Sent: TypeAlias = tuple[bytes, float | None, int, bool]
"""What is sent of a call but for its message, and how: its head without the time that is left; its deadline by the
loop's clock; the largest response in bytes; whether messages are compressed."""


class Channel:
    """Calls one target, through the local proxy or direct. Make one per target and loop, and keep it.

    It connects when the first call needs it.
    """

    def __init__(
        self,
        target: str,
        *,
        socket: str | None = None,
        direct: Sequence[str] = (),
        mode: str | None = None,
        application: str | None = None,
        environment: str | None = None,
        instance: str | None = None,
        tls: TLS | None = None,
        server_identity: str = "",
        interceptors: Sequence[Interceptor] = (),
        max_receive: int = DEFAULT_MAX_RECEIVE,
        limits: Limits = UNSET_LIMITS,
    ) -> None:
        """Make a channel. Raises `ValueError` for settings that cannot be.

        target is the registry's name of the service. socket is the local proxy's Unix socket (default: `OCTO_SOCKET`),
        direct has addresses of instances, `host:port` or `unix:path`, for calls without a proxy. mode is `auto`, `on`
        (the proxy alone) or `off` (direct alone); default: `OCTO_MODE`, else auto. tls makes direct calls mutual TLS
        1.3, with the server of the id server_identity, or any of this process' trust domain and environment.
        interceptors see each unary call, the first outermost. max_receive bounds a response message, in bytes.
        """
        self.target: Final = target
        self._identity = Identity.of(application, environment, instance)
        self._limits = limits
        self._max_receive = max_receive
        self._interceptors = tuple(interceptors)
        self._heads: dict[Method[Any, Any], tuple[bytes, bytes]] = {}  # without what options may change, and with it
        self._link: ClientLink | None = None
        self._peer: Peer | None = None
        self._tls_key = (tls, server_identity)
        self._closed = False
        mode = mode or os.environ.get("OCTO_MODE") or "auto"
        if mode not in ("auto", "on", "off"):
            raise ValueError(f"mode {mode!r} (from OCTO_MODE): want auto, on or off")
        socket = socket if socket is not None else os.environ.get("OCTO_SOCKET", "")
        if mode == "on" and not socket:
            raise ValueError("mode is on, but no proxy's socket is given: set OCTO_SOCKET, or the argument socket")
        self._address = f"unix:{unix_path(socket)}" if socket and mode != "off" else ""
        if not self._address and direct:
            self._address = direct[0]
            if tls is not None:
                over_tcp(self._address)
        if self._address:
            split_address(self._address)
        if server_identity and tls is None:
            raise ValueError("server_identity needs tls")
        # The local proxy's socket stays as it is.
        direct_tls = tls is not None and not (socket and mode != "off")
        self._secure = Security(tls, self._identity.environment, server_identity) if tls and direct_tls else None

    # What generated clients call.

    def unary(self, method: Method[Req, Res], request: Req, options: CallOptions, /) -> Coroutine[Any, Any, Res]:
        """Call a method with one request and one response."""
        if self._interceptors:
            return self._intercepted(method, request, options)
        return self._unary(method, request, options)

    async def _intercepted(self, method: Method[Req, Res], request: Req, options: CallOptions) -> Res:
        call = Call(method, self.target, options)
        response: Res = await intercepted(
            self._interceptors, call, lambda c: self._unary(method, call.sending(request), c.options), call.received
        )
        return response

    async def _unary(self, method: Method[Req, Res], request: Req, options: CallOptions) -> Res:
        sent = self._prepare(method, options)
        body = _serialize(method, request)
        flags = MSG | END
        if sent[3]:
            body, flags = compress(body), flags | COMPRESSED
        link = self._link
        # Another loop's, also before a fork, is somebody else's: `_usable` finds this loop's own.
        if link is None or link.loop is not asyncio.get_running_loop() or not link.conn.takes_calls:
            link = await self._ready(options, sent[1])
        call = UnaryCall(link, method.response.FromString, sent[2])
        tries = _TRIES
        while not self._open(call, flags, sent, body, tries):
            tries -= 1
            link = await self._ready(options, sent[1])
            call = UnaryCall(link, method.response.FromString, sent[2])
        try:
            return await call.answer  # type: ignore[no-any-return]
        except asyncio.CancelledError:
            call.cancel()
            raise
        finally:
            if call.alarm is not None:
                link.alarms.clear(call.alarm)
            if options and (info := options.get("info")) is not None:
                info.headers, info.trailers = call.headers, call.trailers

    def server_stream(self, method: Method[Req, Res], request: Req, options: CallOptions, /) -> ReceiveStream[Res]:
        """Call a method that answers with a stream."""
        return ReceiveStream(*self._stream(method, options, request))

    def client_stream(self, method: Method[Req, Res], options: CallOptions, /) -> SendStream[Req, Res]:
        """Call a method that takes a stream."""
        return SendStream(*self._stream(method, options, None))

    def bidi_stream(self, method: Method[Req, Res], options: CallOptions, /) -> BidiStream[Req, Res]:
        """Call a method with a stream each way."""
        return BidiStream(*self._stream(method, options, None))

    def _stream(
        self, method: Method[Any, Any], options: CallOptions, request: Message | None
    ) -> tuple[StreamCall | None, Callable[[], Awaitable[StreamCall]]]:
        """Begin a call at once if there is a connection, else with its first use."""

        async def opening() -> StreamCall:
            sent = self._prepare(method, options)
            body = None if request is None else _serialize(method, request)
            tries = _TRIES
            while True:
                link = await self._ready(options, sent[1])
                call = self._begin(link, method, sent, body, tries)
                if call is not None:
                    return call
                tries -= 1

        return None, opening

    def _begin(
        self, link: ClientLink, method: Method[Any, Any], sent: _Sent, body: bytes | None, tries: int
    ) -> StreamCall | None:
        call = StreamCall(link, method.response.FromString, sent[2], sent[3])
        if body is None:
            return call if self._open(call, 0, sent, b"", tries) else None
        call.sent_end = True
        flags = MSG | END
        if sent[3]:
            body, flags = compress(body), flags | COMPRESSED
        return call if self._open(call, flags, sent, body, tries) else None

    def _open(self, call: ClientCall, flags: int, sent: _Sent, body: bytes, tries: int) -> bool:
        """Send a call's first frame; False if its connection takes no calls any more, and another is to be tried."""
        head, deadline, _, _ = sent
        link = call.link
        if deadline is not None:
            left = deadline - link.loop.time()
            if left <= 0:
                raise unsent(Reason.DEADLINE, "the deadline passed before the call was sent")
            head = timeout_piece(timeout_us(int(left * 1e9))) + head
        try:
            link.conn.open(call, flags, head, body)
        except StreamLimitError:
            call.done = True
            raise unsent(Reason.QUEUE_FULL, f"{link.conn.open_streams} calls are open on the connection") from None
        except NotOpenError:
            call.done = True
            if not tries:
                raise unsent(Reason.PROXY_DRAINING, "the connection takes no new calls") from None
            return False
        if deadline is not None:
            call.alarm = link.alarms.set(deadline, call)
        return True

    def _prepare(self, method: Method[Any, Any], options: CallOptions) -> _Sent:
        """Apply options, deadline, and what the handler that calls has received."""
        heads = self._heads.get(method)
        if heads is None:
            head = method_piece(self.target.encode(), method.service.encode(), method.name.encode(), method.kind)
            heads = self._heads[method] = head, head + IDEMPOTENT if method.idempotent else head
        timeout = method.timeout
        plain = not options
        if "timeout" in options:
            timeout = options["timeout"]
            plain = len(options) == 1
        deadline = None
        if timeout is not None:
            if timeout <= 0:
                raise unsent(Reason.DEADLINE, f"the timeout is {timeout:g} s")
            deadline = _now() + timeout
        down = carried.get()
        if down is None:
            if plain:
                return heads[1], deadline, self._max_receive, False
            return self._prepare_head(heads[0], method, options, _NOTHING, deadline)
        if down.deadline is not None:
            deadline = down.deadline if deadline is None else min(deadline, down.deadline)
        if plain and not down.baggage and len(down.tracestate) <= _USUAL_TRACESTATE:
            return heads[1] + trace_piece(down.traceparent, down.tracestate), deadline, self._max_receive, False
        return self._prepare_head(heads[0], method, options, down, deadline)

    def _prepare_head(
        self, head: bytes, method: Method[Any, Any], options: CallOptions, down: Carried, deadline: float | None
    ) -> _Sent:
        metadata = checked(options.get("metadata", ()))
        baggage = _merge(down.baggage, options.get("baggage"))
        encoding = _encoding(options.get("compression", ""))
        if (size := metadata_size(metadata)) > MAX_METADATA:
            raise unsent(Reason.HEAD_TOO_LARGE, f"metadata of {size} bytes, the limit is {MAX_METADATA}")
        if (size := baggage_size(baggage)) > MAX_BAGGAGE:
            raise unsent(Reason.HEAD_TOO_LARGE, f"baggage of {size} bytes, the limit is {MAX_BAGGAGE}")
        head = b"".join(
            (
                head,
                entry_fields(METADATA, metadata),
                trace_piece(down.traceparent, down.tracestate),
                entry_fields(BAGGAGE, baggage),
                call_piece(options.get("hash_key", "").encode()),
                IDEMPOTENT if options.get("idempotent", method.idempotent) else b"",
                encodings_piece(encoding, _ACCEPTED if encoding else ()),
            )
        )
        if len(head) + _TIMEOUT_SIZE > MAX_SDK_HEAD:
            raise unsent(Reason.HEAD_TOO_LARGE, f"the head has {len(head)} bytes, the limit is {MAX_SDK_HEAD}")
        return head, deadline, options.get("max_receive", 0) or self._max_receive, encoding == GZIP

    # Connections.

    async def ready(self) -> None:
        """Wait for a connection. Raises `RpcError` if none can be made."""
        await self._ready(CallOptions(), None)

    async def _ready(self, options: CallOptions, deadline: float | None) -> ClientLink:
        """Return a connection that takes calls."""
        wait = options.get("wait_for_ready", False)
        pause = 0.05
        while True:
            link = self._usable()
            if link is not None:
                return link
            if self._closed:
                raise unsent(Reason.CANCELLED, "the channel is closed")
            left = None if deadline is None else deadline - _now()
            if left is not None and left <= 0:
                raise unsent(Reason.DEADLINE, "the deadline passed before there was a connection")
            try:
                async with asyncio.timeout(left):
                    self._link = await asyncio.shield(self._peers().dialed())
                    return self._link
            except TimeoutError:
                raise unsent(Reason.DEADLINE, "the deadline passed before there was a connection") from None
            except (OSError, RefusedError) as error:
                if not wait:
                    raise unsent(Reason.PROXY_UNREACHABLE, f"no connection to {self._address}: {error}") from None
                await asyncio.sleep(pause if left is None else min(pause, left))
                pause = min(pause * 2, 1.0)

    def _peers(self) -> Peer:
        peer = self._peer
        assert peer is not None  # noqa: S101  _usable has seen to it
        return peer

    def _usable(self) -> ClientLink | None:
        peer = self._peer
        if peer is None or peer.loop is not asyncio.get_running_loop() or peer.pid != os.getpid():
            # Another loop, or the child of a fork: what there is belongs to somebody else.
            self._link = None
            self._peer = peer = self._shared()
        link = self._link = peer.usable()
        return link

    def _shared(self) -> Peer:
        """Return the connections that this channel shares with others of the same loop, address and identity."""
        if not self._address:
            raise unsent(Reason.NO_ENDPOINT, "no proxy is to be called, and no address of an instance is known")
        hello = self._identity.hello(ROLE_CALL, self._limits)
        key = (self._address, self._identity, self._limits, self._tls_key)
        return shared_peer(self, key, lambda: dial(self._address, hello, self._secure))

    async def close(self) -> None:
        """Close the channel. Calls that are open end as lost, if nobody else uses its connection."""
        self._closed = True
        peer, self._peer, self._link = self._peer, None, None
        if peer is not None and peer.loop is asyncio.get_running_loop():
            await peer.leave(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _now() -> float:
    return asyncio.get_running_loop().time()


def _serialize(method: Method[Any, Any], request: Message) -> bytes:
    if type(request) is not method.request and not isinstance(request, method.request):
        raise bad_call(
            f"{method.full_name} takes {method.request.DESCRIPTOR.full_name}, not {type(request).__qualname__}"
        )
    try:
        return request.SerializeToString()
    except Exception as error:  # protobuf has its own kinds by implementation
        failed = RpcError(Code.INTERNAL, f"the request does not serialize: {error}")
        failed.reason, failed.origin, failed.disposition = Reason.BAD_MESSAGE, Origin.CLIENT_SDK, 1
        raise failed from error


def _merge(
    inherited: Sequence[tuple[bytes, bytes]], own: Mapping[str, str | bytes] | None
) -> Sequence[tuple[bytes, bytes]]:
    if not own:
        return inherited
    entries = dict([check_entry(key, value) for key, value in own.items()])
    return [*(e for e in inherited if e[0] not in entries), *entries.items()]


def _encoding(name: str) -> bytes:
    if name in ("", IDENTITY.decode()):
        return b""
    if name.encode() == GZIP:
        return GZIP
    raise bad_call(f"encoding {name!r}: this SDK has gzip and identity")
