"""Calls to one target."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from google.protobuf.message import Message

from octomesh._calls import ClientCall, StreamCall, UnaryCall, serialized
from octomesh._decide.again import BUDGET
from octomesh._decide.balance import LANE_TAG
from octomesh._directory.watch import watch
from octomesh._entries import MetadataList, check_entry, checked
from octomesh._generated import CallOptions, Method, Req, Res
from octomesh._peer import ClientLink
from octomesh._settings import DEFAULT_MAX_RECEIVE, Identity
from octomesh._ways.config import Config, Endpoint, config_of
from octomesh._ways.loops import PerLoop
from octomesh._ways.route import Going, Route
from octomesh._ways.status import ChannelStatus, status_of
from octomesh._ways.streaming import Send, Streaming
from octomesh._ways.target import Path
from octomesh._wire.compression import GZIP, IDENTITY, compress
from octomesh._wire.conn import NotOpenError, StreamLimitError
from octomesh._wire.frame import COMPRESSED, END, MSG
from octomesh._wire.heads import (
    BAGGAGE,
    IDEMPOTENT,
    METADATA,
    WANT_TIMINGS,
    call_piece,
    encodings_piece,
    method_piece,
    timeout_piece,
    trace_piece,
)
from octomesh._wire.limits import MAX_BAGGAGE, MAX_METADATA, MAX_SDK_HEAD, UNSET_LIMITS, Limits
from octomesh._wire.proto import entry_fields
from octomesh._wire.status import Reason
from octomesh._wire.text import baggage_size, metadata_size
from octomesh._wire.timeout import timeout_us
from octomesh.context import Carried, carried
from octomesh.errors import RpcError, bad_call, refused, unsent
from octomesh.interceptors import Call, Interceptor, intercepted, own_error, unanswered
from octomesh.streams import BidiStream, ReceiveStream, SendStream
from octomesh.timings import Taking
from octomesh.tls import TLS

_TIMEOUT_SIZE: Final = 9
_ACCEPTED: Final = (GZIP,)
"""What is said beside identity, which everybody decodes."""
_USUAL_TRACESTATE: Final = 512
"""Bytes up to which a head surely has room for it."""
_NOTHING: Final = Carried()
LANE: Final = LANE_TAG.encode()


class CallInfo:
    """What came with a unary call, filled in at its end: give one as the option `info`."""

    def __init__(self) -> None:
        self.headers: MetadataList = []
        """The response's initial metadata."""
        self.trailers: MetadataList = []
        """The metadata that ended the call, however it ended."""
        self.path = Path.NONE
        """The way that the call took, of several the last; none where nothing was to be sent."""


_Sent: TypeAlias = tuple[bytes, float | None, int, bool]
"""What is sent of a call but for its message, and how: its head without the time that is left; its deadline by the
loop's clock; the largest response in bytes; whether messages are compressed."""


class Channel:
    """Calls one target, through the local proxy or direct. Make one per target and loop, and keep it.

    Where calls go is decided call by call between the proxy and the target's instances: by the mesh switch of the
    Directory, by a kill switch on this host, and by what answers; see `status`. Instances are those of `direct`, else
    those that the Directory knows: the proxy, else the control plane, else what was kept on disk. All channels of a
    loop to one socket, with the same identity and limits, share one connection. It connects when the first call needs
    it.
    """

    def __init__(
        self,
        target: str,
        *,
        socket: str | None = None,
        direct: Sequence[str | Endpoint] = (),
        directory: Sequence[str] | None = None,
        mode: str | None = None,
        permille: int | None = None,
        switch_file: str | None = None,
        fallback: bool = True,
        state: str | None = None,
        zone: str | None = None,
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

        target is the registry's name of the service. socket is the path of the local proxy's Unix socket, at most 107
        bytes (default: `OCTO_SOCKET`). direct has servers that direct calls go to, as `host:port`, `unix:path` or
        `Endpoint`, in place of those that a Directory knows. directory has addresses of the control plane's
        Directories (default: `OCTO_DIRECTORY`, with commas between).

        mode is `auto`, the proxy and direct, by the mesh switch and by what answers; `on`, the proxy alone, with no
        fallback; or `off`, direct alone (default: `OCTO_MODE`, else auto). permille is how many of 1000 calls take the
        mesh, in place of what the console says, in mode auto alone (default: `OCTO_PERMILLE`, else as the console
        says). switch_file names the kill switch's file, which is looked at all the time and goes before both (default:
        `OCTO_SWITCH_FILE`, else none). Without fallback a call whose way is not there ends UNAVAILABLE,
        PROXY_UNREACHABLE, NOT_PROCESSED. state is a folder where the SDK keeps what it knows of targets, to start from
        when neither proxy nor control plane answer (default: `OCTO_STATE`, else nothing is kept). zone says where this
        process stands: direct calls go to instances of its own zone while it has some (default: `OCTO_ZONE`, else
        zones do not matter).

        tls makes direct calls mutual TLS 1.3, with the server of the id server_identity, or any of this process' trust
        domain and environment. interceptors see each call, the first outermost. max_receive bounds a response
        message, in bytes.
        """
        config = config_of(
            Identity.of(application, environment, instance),
            socket=socket,
            direct=direct,
            directory=directory,
            mode=mode,
            permille=permille,
            switch_file=switch_file,
            fallback=fallback,
            state=state,
            zone=zone,
            tls=tls,
            server_identity=server_identity,
            limits=limits,
            max_receive=max_receive,
        )
        config.check(target)
        self._init(target, config, interceptors)

    def _init(self, target: str, config: Config, interceptors: Sequence[Interceptor]) -> None:
        self.target = target
        """The registry's name of the service that it calls."""
        self._config = config
        self._max_receive = config.max_receive
        self._interceptors = tuple(interceptors)
        self._heads: dict[Method[Any, Any], tuple[bytes, bytes]] = {}  # without what options may change, and with it
        self._routes: PerLoop[Route] = PerLoop()
        self._route: Route | None = None
        """Of the loop that called last."""
        self._link: ClientLink | None = None
        """Where each call goes as long as it is set: there is nothing to decide. Of the same loop."""
        self._closed = False
        if config.watched(target):
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                return  # it begins with the first use in a loop
            self._here()

    @classmethod
    def of(cls, target: str, config: Config) -> Self:
        """Make a channel of finished settings, without interceptors."""
        channel = cls.__new__(cls)
        channel._init(target, config, ())
        return channel

    # What generated clients call.

    def unary(self, method: Method[Req, Res], request: Req, options: CallOptions, /) -> Coroutine[Any, Any, Res]:
        """Call a method with one request and one response."""
        if self._interceptors:
            return self._intercepted(method, request, options)
        return self._unary(method, request, options)

    async def _intercepted(self, method: Method[Req, Res], request: Req, options: CallOptions) -> Res:
        call = Call(method, self.target, options, request)
        down = carried.get()
        try:
            response: Res = await intercepted(
                self._interceptors,
                call,
                lambda c: self._unary(method, c.sending(c.request), c.options, down),
                call.received,
            )
            if not isinstance(response, method.response):
                raise unanswered(f"an interceptor answered with {type(response).__qualname__} instead of a response")
        except BaseException as error:
            said = own_error(error)
            call.ended(said)
            if said is error:
                raise
            raise said from error
        call.ended(None)
        return response

    async def _unary(
        self, method: Method[Req, Res], request: Req, options: CallOptions, inherited: Carried | None = _NOTHING
    ) -> Res:
        taking = _taking(options) if options else None
        sent = self._prepare(method, options)
        body = serialized(method, request)
        flags = MSG | END
        if sent[3]:
            body, flags = compress(body), flags | COMPRESSED
        link, route, going = self._link, self._route, None
        # Another loop's, also before a fork, is somebody else's: `_here` finds this loop's own.
        if link is None or link.loop is not asyncio.get_running_loop() or not link.conn.takes_calls:
            link, route = None, self._here()
            going = self._going(method, options, sent[1], inherited)
        assert route is not None  # noqa: S101  it is set with the link
        begun = 0.0 if route.watch is None else route.loop.time()
        call = None
        try:
            while True:
                if link is None:
                    assert going is not None  # noqa: S101  who has no link has made one
                    link = await self._linked(route, going)
                call = UnaryCall(link, method.response.FromString, sent[2])
                call.taking = taking
                if not self._open(call, flags, sent, body):
                    going = going or self._going(method, options, sent[1], inherited, link)
                    link = await self._elsewhere(route, going, link)
                    continue
                try:
                    response: Res = await call.answer
                    break
                except RpcError as error:
                    going = going or self._going(method, options, sent[1], inherited, link)
                    if not route.again(going, error):
                        raise
                    sent = self._anew(method, options, sent[1], carried.get(), going.resent)
                    link = None
                finally:
                    if call.alarm is not None:
                        call.link.alarms.clear(call.alarm)
        except BaseException as error:
            if call is not None:
                call.cancel()
            self._ended(
                route, begun, going or self._going(method, options, sent[1], inherited, link), options, call, error
            )
            raise
        if going is not None or taking is not None or "info" in options:
            going = going or self._going(method, options, sent[1], inherited, link)
            self._ended(route, begun, going, options, call, None)
        elif route.watch is not None:
            route.measured(link, begun)
        if going is not None or route.budget.tenths < BUDGET:
            route.succeeded(link)
        return response

    def _ended(
        self,
        route: Route,
        begun: float,
        going: Going,
        options: CallOptions,
        call: UnaryCall | None,
        error: BaseException | None,
    ) -> None:
        """Book a unary call that has ended."""
        if call is not None and call.taking is not None:
            call.taking.store(self._config.identity.instance.encode())
        info = options.get("info")
        if info is not None:
            info.path = going.at
            if call is not None:
                info.headers, info.trailers = call.headers, call.trailers
        if error is None or isinstance(error, RpcError):
            route.over(going, begun, error)
        elif isinstance(error, asyncio.CancelledError):
            route.over(going, begun, refused(Reason.CANCELLED, "the caller cancelled the call"))

    def server_stream(self, method: Method[Req, Res], request: Req, options: CallOptions, /) -> ReceiveStream[Res]:
        """Call a method that answers with a stream."""
        return ReceiveStream(self._stream(method, options, request))

    def client_stream(self, method: Method[Req, Res], options: CallOptions, /) -> SendStream[Req, Res]:
        """Call a method that takes a stream."""
        return SendStream(self._stream(method, options, None))

    def bidi_stream(self, method: Method[Req, Res], options: CallOptions, /) -> BidiStream[Req, Res]:
        """Call a method with a stream each way."""
        return BidiStream(self._stream(method, options, None))

    def _stream(self, method: Method[Any, Any], options: CallOptions, request: Message | None) -> Streaming:
        """Make a call that begins with its first use."""
        seen = Call(method, self.target, options, request)
        inherited: list[Carried | None] = []
        taking: list[Taking] = []

        def prepare() -> tuple[Route, Going, Send]:
            options = seen.options
            first = self._prepare(method, options)
            down, route = carried.get(), self._here()
            going = self._going(method, options, first[1], inherited[0] if inherited else _NOTHING)
            whole = not method.kind.streams_in
            body = serialized(method, seen.sending(seen.request)) if whole else b""
            flags = MSG | END if whole else 0
            if whole and first[3]:
                body, flags = compress(body), flags | COMPRESSED

            async def send(link: ClientLink, attempt: int) -> StreamCall:
                self._link = route.fast()
                sent = self._anew(method, options, first[1], down, attempt) if attempt else first
                while True:
                    call = StreamCall(link, method, sent[2], sent[3])
                    call.sent_end = whole
                    call.taking = taking[0] if taking else None
                    if self._open(call, flags, sent, body):
                        call.more = call.blocked
                        return call
                    link = await self._elsewhere(route, going, link)

            return route, going, send

        async def around(proceed: Callable[[], Awaitable[object]]) -> None:
            inherited.append(carried.get())
            await intercepted(self._interceptors, seen, lambda _: proceed())

        def ended(error: RpcError | None) -> None:
            if taking:
                taking[0].store(self._config.identity.instance.encode())
            seen.ended(error)

        def begin() -> tuple[Route, Going, Send]:
            asked = _taking(seen.options)
            if asked is not None:
                taking.append(asked)
            return prepare()

        return Streaming(begin, seen, around if self._interceptors else None, ended)

    def _open(self, call: ClientCall, flags: int, sent: _Sent, body: bytes) -> bool:
        """Send a call's first frame; False if its connection takes none now, or not any more: see `_elsewhere`."""
        head, deadline, _, _ = sent
        link = call.link
        if deadline is not None:
            left = deadline - link.loop.time()
            if left <= 0:
                call.done = True
                raise unsent(Reason.DEADLINE, "the deadline passed before the call was sent")
            head = timeout_piece(timeout_us(int(left * 1e9))) + head
        try:
            link.conn.open(call, flags, head, body)
        except (StreamLimitError, NotOpenError):
            call.done = True
            return False
        if deadline is not None:
            call.alarm = link.alarms.set(deadline, call)
        if call.taking is not None:
            call.taking.sent()
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
            # In the order of the fields' numbers (W-HEAD-2).
            head = heads[0] + trace_piece(down.traceparent, down.tracestate)
            return head + IDEMPOTENT if method.idempotent else head, deadline, self._max_receive, False
        return self._prepare_head(heads[0], method, options, down, deadline)

    def _prepare_head(
        self,
        head: bytes,
        method: Method[Any, Any],
        options: CallOptions,
        down: Carried,
        deadline: float | None,
        attempt: int = 0,
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
                call_piece(options.get("hash_key", "").encode(), attempt),
                IDEMPOTENT if options.get("idempotent", method.idempotent) else b"",
                encodings_piece(encoding, _ACCEPTED if encoding else ()),
                WANT_TIMINGS if "timings" in options else b"",
            )
        )
        if len(head) + _TIMEOUT_SIZE > MAX_SDK_HEAD:
            raise unsent(Reason.HEAD_TOO_LARGE, f"the head has {len(head)} bytes, the limit is {MAX_SDK_HEAD}")
        return head, deadline, options.get("max_receive", 0) or self._max_receive, encoding == GZIP

    def _anew(
        self, method: Method[Any, Any], options: CallOptions, deadline: float | None, down: Carried | None, attempt: int
    ) -> _Sent:
        """What is sent again of a call."""
        return self._prepare_head(self._heads[method][0], method, options, down or _NOTHING, deadline, attempt)

    # Ways.

    def _here(self) -> Route:
        """The ways of the running loop. Another loop's, and those of before a fork, are somebody else's."""
        loop = asyncio.get_running_loop()
        route = self._route
        if route is not None and route.loop is loop:
            return route
        if self._closed:
            raise unsent(Reason.CANCELLED, "the channel is closed")
        routes = self._routes.here()
        route = routes.get("")
        if route is None:
            route = routes[""] = self._begin()
        self._route, self._link = route, None
        return route

    def _begin(self) -> Route:
        return Route(self._config, self.target, self._changed, watch)

    def _changed(self) -> None:
        """Something may have to be decided again."""
        self._link = None

    def _going(
        self,
        method: Method[Any, Any],
        options: CallOptions,
        deadline: float | None,
        inherited: Carried | None = _NOTHING,
        link: ClientLink | None = None,
    ) -> Going:
        """What decides where a call goes. link is where it went without a decision, if it did.

        inherited is what it had before interceptors saw it; without any what it has now.
        """
        down = carried.get()
        trace = down if inherited is _NOTHING else inherited
        lane = ""
        for key, value in down.baggage if down is not None else ():
            if key == LANE:
                lane = value.decode("ascii", "replace")
        if options:
            own = (options.get("baggage") or {}).get(LANE_TAG, lane)
            lane = own if isinstance(own, str) else own.decode("ascii", "replace")
        going = Going(
            deadline,
            options.get("wait_for_ready", False),
            options.get("idempotent", method.idempotent),
            options.get("hash_key", "").encode(),
            bytes.fromhex(trace.traceparent[3:35].decode()) if trace is not None and trace.traceparent else b"",
            lane,
        )
        if link is not None:
            going.made, going.by_mesh = True, link.peer.mesh
            going.at = Path.MESH if link.peer.mesh else Path.DIRECT
        return going

    async def _linked(self, route: Route, going: Going) -> ClientLink:
        """A connection for a call."""
        link = await route.pick(going)
        self._link = route.fast()
        return link

    async def _elsewhere(self, route: Route, going: Going, link: ClientLink) -> ClientLink:
        """A connection for a call that one took not although it was picked for it: nothing was sent."""
        if link.conn.takes_calls:  # its limit of streams is reached
            await link.room(going.deadline)
            if link.conn.takes_calls:
                return link
        else:
            link.exhausted()
        return await self._linked(route, going)

    async def ready(self) -> None:
        """Wait until a call could go. Raises `RpcError` if none can."""
        route = self._here()
        await route.ready(None)
        self._link = route.fast()

    def status(self) -> ChannelStatus:
        """Where the calls of the running loop go, and why."""
        return status_of(self._here())

    async def close(self) -> None:
        """Close the channel. A connection that no other uses is closed, and calls on it end as CANCELLED."""
        self._closed = True
        route = self._routes.here().pop("", None)
        self._route = self._link = None
        if route is not None:
            await route.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _taking(options: CallOptions) -> Taking | None:
    """Begin to note where the time goes, for who wants to know."""
    timings = options.get("timings")
    return None if timings is None else Taking(timings)


def _now() -> float:
    return asyncio.get_running_loop().time()


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
