"""Calls at their server."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.message import DecodeError, Message

from octomesh._calls import BUDGET
from octomesh._clock import Alarm
from octomesh._generated import CallOptions, Method
from octomesh._wire.compression import ENCODINGS, GZIP, EncodingError, compress, decompress
from octomesh._wire.frame import COMPRESSED, END, MESSAGE, MORE, MSG, RESPONSE
from octomesh._wire.heads import HEADERS_PRESENT, RequestHeads, ResponseHead
from octomesh._wire.inbox import Inbox
from octomesh._wire.limits import MAX_SDK_HEAD
from octomesh._wire.proto import Entry, HeadError
from octomesh._wire.status import Disposition, Origin, Reason, Status, refuse
from octomesh._wire.stream import Stream
from octomesh._wire.text import valid_traceparent
from octomesh._wire.timeout import timeout_ns
from octomesh.context import Carried, ServerContext, carried
from octomesh.errors import RpcError, from_status, status_of_handler
from octomesh.interceptors import Call, Interceptor, intercepted
from octomesh.timings import Times

if TYPE_CHECKING:
    from octomesh.server import ServerLink

log: Final = logging.getLogger("octomesh")

HEADS: Final = RequestHeads()
_WHOLE: Final = MSG | END
_SHAPE: Final = MSG | END | MORE | COMPRESSED
_LONG_MESSAGE: Final = 8 << 10
_PROCESSED: Final = Disposition.PROCESSED
_NO_OPTIONS: Final = CallOptions()


class Endpoint:
    """A method with what handles it."""

    __slots__ = ("function", "interceptors", "method", "parse", "respond", "streams_in", "streams_out")

    def __init__(
        self, method: Method[Any, Any], function: Callable[..., Any], interceptors: Sequence[Interceptor]
    ) -> None:
        self.method = method
        self.function = function
        self.interceptors = tuple(interceptors)
        self.parse: Callable[[bytes], Any] = method.request.FromString
        self.respond = method.response
        self.streams_in = method.kind.streams_in
        self.streams_out = method.kind.streams_out


class ServerCall(Stream):
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

    # What the connection calls.

    def on_request(self, flags: int, head: bytes, body: bytes) -> None:
        """Let the call in, or refuse it."""
        link = self._link
        try:
            timeout, traceparent, h = HEADS.parse(head)
            if not h.from_sdk and link.from_sdk:
                raise HeadError("a field that only a hop may set")
        except HeadError as error:
            link.conn.reset(self, refuse(Reason.BAD_HEAD, Origin.SERVER_SDK, f"the request's head: {error}"))
            link.conn.release(self)
            return
        if h.want_timings:
            self._times = Times(link.server.identity.instance.encode())
        found = link.server.find(h)
        if not isinstance(found, Endpoint):
            self._reject(found)
            return
        self.entry = found
        deadline = None
        if timeout:
            deadline = link.loop.time() + timeout_ns(timeout) / 1e9
            self.alarm = link.alarms.set(deadline, self)
        peer = link.peer if not h.caller and h.verified_caller is None else link.peer_of(h)
        self.context = ServerContext(self, h, traceparent, deadline, peer)
        if h.message_encoding:
            self.encoding = h.message_encoding
            self._wants_gzip = self.encoding == GZIP and GZIP in h.accepted_encodings
        if flags & _SHAPE == _WHOLE and not found.streams_in and len(body) <= link.server.max_receive:
            self._start(body)
            return
        self._inbox = Inbox(link.server.max_receive, BUDGET)
        self._arrived(flags, body)

    def on_message(self, flags: int, head: bytes, body: bytes) -> None:  # noqa: ARG002
        """More of the request came."""
        self._arrived(flags, body)

    def on_response(self, flags: int, head: bytes, body: bytes) -> None:
        """Never comes at this side."""

    def on_credit(self, done: bool) -> None:
        """A send may go on."""
        if done:
            self._wake_sender()

    def on_closed(self, status: Status) -> None:
        """The caller is gone, or wants it no more."""
        if status.reason == Reason.DEADLINE:
            self._expired = True
        self._cut()
        if self._task is None:
            self._link.conn.release(self)

    def on_deadline(self) -> None:
        """The caller's time is over: the handler is cancelled, and its answer is that."""
        if not self._over:
            self._expired = True
            if self._begun and self._task is not None:
                self._task.cancel()

    # Requests.

    def _arrived(self, flags: int, body: bytes) -> None:
        inbox, entry = self._inbox, self.entry
        if inbox is None:
            self._break_off(refuse(Reason.BAD_MESSAGE, Origin.SERVER_SDK, "more than one request message"))
            return
        if flags & MSG:
            reason = inbox.add(self._link.conn, self, flags, body)
            if reason:
                limit = self._link.server.max_receive
                self._break_off(refuse(reason, Origin.SERVER_SDK, f"the request has more than {limit} bytes"))
                return
        if not entry.streams_in:
            if len(inbox.waiting) > 1:
                self._break_off(refuse(Reason.BAD_MESSAGE, Origin.SERVER_SDK, "more than one request message"))
            elif self.remote_ended:
                if inbox.waiting:
                    self._start(None)
                else:
                    self._break_off(refuse(Reason.BAD_MESSAGE, Origin.SERVER_SDK, "no request message"))
        elif self._task is None:
            self._start(None)
        news, self._news = self._news, None
        if news is not None and not news.done():
            news.set_result(None)

    def _start(self, body: bytes | None) -> None:
        link = self._link
        link.conn.started(self)
        self._task = task = link.loop.create_task(self._run(body))
        if not task.done():  # a task that begins at once may be
            link.server.running.add(task)

    def _reject(self, status: Status) -> None:
        """End a call that no handler sees."""
        if self.alarm is not None:
            self._link.alarms.clear(self.alarm)
        h = ResponseHead()
        h.status = status
        if status.reason == Reason.UNKNOWN_ENCODING:
            h.accepted_encodings = ENCODINGS
        if self._times is not None:
            h.timings = self._times.stages()
        self._link.conn.send(self, RESPONSE, END, h.encode())
        self._link.conn.release(self)

    def _break_off(self, status: Status) -> None:
        """End a call whose caller broke a rule."""
        if self._task is None:
            self._over = True
            self._reject(status)
            return
        status.disposition = Disposition.PROCESSED
        self._refused = from_status(status)
        self._link.conn.reset(self, status)
        self._cut()

    def _cut(self) -> None:
        self._over = True
        if self.alarm is not None:
            self._link.alarms.clear(self.alarm)
        if self._inbox is not None:
            self._inbox.drop()
        if self._begun and self._task is not None:  # else it sees for itself, and still does what belongs to its end
            self._task.cancel()

    # The handler.

    async def _run(self, body: bytes | None) -> None:
        self._begun = True
        try:
            await self._answer(body)
        finally:
            link = self._link
            if self._task is not None:
                link.server.running.discard(self._task)
            link.conn.release(self)

    async def _answer(self, body: bytes | None) -> None:
        link, context, h = self._link, self.context, self.context._head
        response: Message | None = None
        status: Status | None = None
        try:
            traceparent = context._traceparent
            if traceparent or h.baggage or context.deadline is not None:
                valid = traceparent if valid_traceparent(traceparent) else b""
                carried.set(Carried(context.deadline, valid, h.tracestate if valid else b"", tuple(h.baggage)))
            if self._over:
                return
            if self._expired:
                status = refuse(Reason.DEADLINE, Origin.SERVER_SDK, "the deadline passed before the handler began")
                status.disposition = Disposition.NOT_PROCESSED
            else:
                if self._times is not None:
                    self._times.begin()
                response = await self._handle(body)
        except asyncio.CancelledError:
            if self._expired:
                status = _past_deadline()
            elif self._over:
                return
            elif link.server.stopped:
                status = refuse(Reason.DRAIN_DEADLINE, Origin.SERVER_SDK, "the server stopped")
            else:
                # The handler's own doing, such as a cancelled task that it waited for.
                status = _crashed()
                log.exception("handler of %s was cancelled from within", self.entry.method.full_name)
        except _BadMessageError as error:
            status = error.status
        except RpcError as error:
            status = status_of_handler(error)
        except Exception as error:
            status = _past_deadline() if self._expired and isinstance(error, TimeoutError) else status_of_handler(error)
            log.debug("handler of %s raised", self.entry.method.full_name, exc_info=True)
        except BaseException as error:
            status = _crashed()
            log.exception("handler of %s crashed", self.entry.method.full_name)
            if isinstance(error, KeyboardInterrupt):  # meant for who runs the loop; the caller gets an answer first
                if not self._over and not self.blocked:
                    self._finish(None, status)
                raise
        finally:
            if self.alarm is not None:
                link.alarms.clear(self.alarm)
            if self._times is not None:
                self._times.end()
        if not self._over:
            if self.blocked:
                await self._credited()
            self._finish(response, status if status is not None and status.code else None)

    async def _handle(self, body: bytes | None) -> Message | None:
        entry = self.entry
        request: Any
        if not entry.streams_in:
            if body is not None:
                try:
                    request = entry.parse(body)
                except DecodeError as error:
                    raise _BadMessageError(Reason.BAD_MESSAGE, f"the request does not decode: {error}") from None
            elif self._inbox is not None:
                request = self._decode(*self._inbox.take(self._link.conn, self))
        else:
            request = self._requests()
        if entry.interceptors:
            return await self._intercepted(request)
        if entry.streams_out:
            await self._respond(entry.function(request, self.context), None)
            return None
        answer = entry.function(request, self.context)
        if type(answer) is CoroutineType or inspect.isawaitable(answer):
            return await answer  # type: ignore[no-any-return]
        raise _wrong_type(entry, answer, "an awaitable")

    async def _intercepted(self, request: Any) -> Message | None:
        entry = self.entry
        whole = None if entry.streams_in else request
        call = Call(entry.method, self._link.server.target, _NO_OPTIONS, whole, self.context)
        try:
            answer: Message | None = await intercepted(entry.interceptors, call, lambda c: self._call(request, c))
        except BaseException as error:
            call.ended(error)
            raise
        call.ended(None)
        return answer

    async def _call(self, requests: Any, call: Call) -> Message | None:
        entry = self.entry
        request = _seen(requests, call) if entry.streams_in else call.received(call.request)
        if entry.streams_out:
            await self._respond(entry.function(request, self.context), call)
            return None
        answer = entry.function(request, self.context)
        if not inspect.isawaitable(answer):
            raise _wrong_type(entry, answer, "an awaitable")
        answer = await answer
        if not isinstance(answer, entry.respond):
            raise _wrong_type(entry, answer)
        return call.sending(answer)  # type: ignore[no-any-return]

    async def _respond(self, responses: Any, call: Call | None) -> None:
        """Send what the handler yields."""
        if inspect.iscoroutine(responses):  # a handler without a yield: it runs, and there is nothing to send
            responses = await responses
            if responses is None:
                return
        if not isinstance(responses, AsyncIterable):
            raise _wrong_type(self.entry, responses, "an async iterator")
        try:
            async for response in responses:
                if not isinstance(response, self.entry.respond):
                    raise _wrong_type(self.entry, response)
                await self._send(response if call is None else call.sending(response))
        finally:
            close = getattr(responses, "aclose", None)
            if close is not None:
                await close()

    async def _requests(self) -> AsyncIterator[Any]:
        """Give the requests of a stream."""
        while True:
            inbox = self._inbox
            if inbox is not None and inbox.waiting:
                yield self._decode(*inbox.take(self._link.conn, self))
                continue
            if self._refused is not None:
                raise self._refused
            if self.remote_ended or self._over:
                return
            if self._news is None:
                self._news = self._link.loop.create_future()
            await self._news

    def _decode(self, body: bytes, compressed: bool) -> Any:
        if compressed:
            try:
                body = decompress(body, self.encoding, self._link.server.max_receive)
            except EncodingError as error:
                text = str(error)
                if error.reason == Reason.UNKNOWN_ENCODING:
                    text = f"encoding {self.encoding!r}: this server decodes gzip and identity"
                raise _BadMessageError(error.reason, text) from None
        try:
            return self.entry.parse(body)
        except DecodeError as error:
            raise _BadMessageError(Reason.BAD_MESSAGE, f"the request does not decode: {error}") from None

    # Responses.

    def send_headers(self) -> None:
        """Send the initial metadata alone."""
        if not self.headers_sent and not self._over:
            self._link.conn.send(self, RESPONSE, 0, self._first_head())

    def _first_head(self) -> bytes:
        self.headers_sent = True
        h = ResponseHead()
        h.headers_present, h.metadata = True, self.headers
        if self._wants_gzip:
            h.message_encoding = GZIP
        return h.encode()

    async def _send(self, response: Any) -> None:
        if not isinstance(response, self.entry.respond):
            raise _wrong_type(self.entry, response)
        while self.blocked and not self._over:
            await self._credited()
        if self._over:
            raise asyncio.CancelledError
        try:
            body, flags = response.SerializeToString(), MSG
        except Exception as error:  # protobuf has its own kinds by implementation
            raise _BadMessageError(
                Reason.BAD_MESSAGE, f"the response does not serialize: {error}", _PROCESSED
            ) from error
        if self._wants_gzip:
            body, flags = compress(body), MSG | COMPRESSED
        kind, head = (MESSAGE, b"") if self.headers_sent else (RESPONSE, self._first_head())
        if not self._link.conn.send(self, kind, flags, head, body):
            await self._credited()
        else:
            await self._link.drained()

    async def _credited(self) -> None:
        self._credit = self._link.loop.create_future()
        await self._credit

    def _wake_sender(self) -> None:
        credit, self._credit = self._credit, None
        if credit is not None and not credit.done():
            credit.set_result(None)

    def _finish(self, response: Message | None, status: Status | None) -> None:
        """Send what ends the call."""
        entry = self.entry
        body, flags = b"", END
        if status is None and not entry.streams_out:
            if not isinstance(response, entry.respond):
                status = _wrong_type(entry, response).status
            else:
                try:
                    body, flags = response.SerializeToString(), MSG | END
                except Exception as error:  # protobuf has its own kinds by implementation
                    status = refuse(Reason.BAD_MESSAGE, Origin.SERVER_SDK, f"the response does not serialize: {error}")
                    status.disposition = Disposition.PROCESSED
        if status is None and self._wants_gzip and flags & MSG:
            body, flags = compress(body), flags | COMPRESSED
        conn = self._link.conn
        self._over = True
        conn.send(self, RESPONSE, flags, self._final_head(status, bool(flags & COMPRESSED)), body)

    def _final_head(self, status: Status | None, compressed: bool) -> bytes:
        if status is None and not self.headers and not self.trailers and not compressed and self._times is None:
            return HEADERS_PRESENT
        h = ResponseHead()
        h.headers_present = status is None or self.headers_sent or bool(self.headers)
        h.trailers = self.trailers
        if not self.headers_sent:
            h.metadata = self.headers
            if compressed:
                h.message_encoding = GZIP
        if status is not None:
            h.status = status
            if status.reason == Reason.UNKNOWN_ENCODING:
                h.accepted_encodings = ENCODINGS
        if self._times is not None:
            h.timings = self._times.stages()
        head = h.encode()
        if len(head) > MAX_SDK_HEAD and h.timings:
            h.timings = b""
            head = h.encode()
        if len(head) > MAX_SDK_HEAD and status is not None:  # the code matters more than what explains it
            status.details = b""
            head = h.encode()
        if len(head) > MAX_SDK_HEAD:
            h.trailers = ()
            head = h.encode()
        if len(head) > MAX_SDK_HEAD and status is not None:
            status.message = status.message[:_LONG_MESSAGE]
            head = h.encode()
        return head


class _BadMessageError(Exception):
    """What arrived is no request, or what the handler gave no response."""

    def __init__(self, reason: Reason, text: str, disposition: Disposition | None = None) -> None:
        super().__init__(text)
        self.status = refuse(reason, Origin.SERVER_SDK, text)
        if disposition is not None:
            self.status.disposition = disposition


def _crashed() -> Status:
    return refuse(Reason.HANDLER_CRASHED, Origin.SERVER_SDK, "the handler crashed; see the server's log")


def _past_deadline() -> Status:
    status = refuse(Reason.DEADLINE, Origin.SERVER_SDK, "the deadline passed in the handler")
    status.disposition = Disposition.PROCESSED
    return status


def _wrong_type(entry: Endpoint, given: Any, wanted: str = "") -> _BadMessageError:
    wanted = wanted or entry.respond.DESCRIPTOR.full_name
    text = f"the handler of {entry.method.full_name} gave {type(given).__qualname__}, not {wanted}"
    return _BadMessageError(Reason.BAD_MESSAGE, text, Disposition.PROCESSED)


async def _seen(requests: AsyncIterator[Any], call: Call) -> AsyncIterator[Any]:
    async for request in requests:
        yield call.received(request)
