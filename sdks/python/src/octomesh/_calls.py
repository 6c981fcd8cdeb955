"""Calls at their caller, as the connection knows them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.message import DecodeError, Message

from octomesh._clock import Alarm
from octomesh._entries import MetadataList, shown
from octomesh._wire.compression import ENCODINGS, EncodingError, compress, decompress
from octomesh._wire.frame import COMPRESSED, END, MESSAGE, MORE, MSG
from octomesh._wire.heads import HEADERS_PRESENT, ResponseHead, ResponseHeads
from octomesh._wire.inbox import Budget, Inbox
from octomesh._wire.proto import HeadError
from octomesh._wire.status import Disposition, Origin, Reason, Status, refuse
from octomesh._wire.stream import Stream
from octomesh.errors import Code, RpcError, bad_call, from_status, refused

if TYPE_CHECKING:
    from octomesh._generated import Method
    from octomesh._peer import ClientLink
    from octomesh.timings import Taking

BUDGET: Final = Budget()
HEADS: Final = ResponseHeads()
CONTENT_TYPES: Final = frozenset((b"", b"application/grpc", b"application/grpc+proto"))
_WHOLE: Final = MSG | END
_SHAPE: Final = MSG | END | MORE | COMPRESSED
_PLAIN: Final = frozenset((b"", HEADERS_PRESENT))
_CANCELLED: Final = refuse(Reason.CANCELLED, Origin.CLIENT_SDK, "the caller cancelled the call")


def serialized(method: Method[Any, Any], request: Any) -> bytes:
    """Return a request's bytes. Raises `RpcError` for what is no request of the method, or is not whole."""
    if type(request) is not method.request and not isinstance(request, method.request):
        raise bad_call(
            f"{method.full_name} takes {method.request.DESCRIPTOR.full_name}, not {type(request).__qualname__}"
        )
    try:
        return request.SerializeToString()  # type: ignore[no-any-return]
    except Exception as error:  # protobuf has its own kinds by implementation
        failed = RpcError(Code.INTERNAL, f"the request does not serialize: {error}")
        failed.reason, failed.origin = Reason.BAD_MESSAGE, Origin.CLIENT_SDK
        failed.disposition = Disposition.NOT_PROCESSED
        raise failed from error


class ClientCall(Stream):
    """What all calls have: how they end, and what came with it."""

    __slots__ = ("alarm", "done", "error", "head", "inbox", "limit", "link", "parse", "taking", "trailers")

    def __init__(self, link: ClientLink, parse: Callable[[bytes], Any], limit: int) -> None:
        self.link = link
        self.parse = parse
        self.limit = limit
        self.alarm: Alarm | None = None
        self.inbox: Inbox | None = None
        self.head: ResponseHead | None = None
        self.taking: Taking | None = None
        self.trailers: MetadataList = []
        self.done = False
        self.error: RpcError | None = None

    @property
    def headers(self) -> MetadataList:
        """The response's initial metadata, as far as it has come."""
        return shown(self.head.metadata) if self.head is not None else []

    def wake(self) -> None:
        """There is news: a message, headers, or the end."""
        raise NotImplementedError

    def arrived(self, flags: int, head: bytes, body: bytes, response: bool) -> None:
        """Book a RESPONSE or MESSAGE of any shape."""
        if self.done:
            return
        h: ResponseHead | None = None
        if response:
            try:
                h = HEADS.parse(head)
            except HeadError:
                self.break_off(Reason.BAD_HEAD, "the response's head does not parse")
                return
            if h.content_type not in CONTENT_TYPES:
                self.break_off(Reason.UNKNOWN_CONTENT_TYPE, f"the response's content type is {h.content_type!r}")
                return
            if self.head is None:
                self.head = h
            elif h.message_encoding and not self.head.message_encoding:
                self.head = self.head.encoded(h.message_encoding)  # said behind the message (W-HEAD-13)
        if flags & MSG:
            if self.inbox is None:
                self.inbox = Inbox(self.limit, BUDGET)
            reason = self.inbox.add(self.link.conn, self, flags, body)
            if reason:
                self.break_off(Reason(reason), f"the response has more than {self.limit} bytes")
                return
        if flags & END and h is not None:
            self.end(h)
        self.wake()

    def end(self, h: ResponseHead) -> None:
        """The call has ended as its server, or somebody on the way, says."""
        self.done = True
        if self.taking is not None:
            self.taking.answered(h.timings)
        self.trailers = shown(h.trailers)
        if self.inbox is not None and self.inbox.assembling and (h.status is None or not h.status.code):
            self.error = refused(Reason.STREAM_PROTOCOL, "the call ended in the middle of a message")
        if h.status is not None and h.status.code:
            self.error = from_status(h.status)
            self.error.trailers = self.trailers
            self.error.accepted_encodings = [e.decode("ascii", "replace") for e in h.accepted_encodings]

    def decode(self, body: bytes, compressed: bool) -> Any:
        """Return a message of wire bytes. Raises `RpcError`."""
        if compressed:
            encoding = self.head.message_encoding if self.head is not None else b""
            try:
                body = decompress(body, encoding, self.limit)
            except EncodingError as error:
                failed = refused(error.reason, str(error))
                if error.reason == Reason.UNKNOWN_ENCODING:
                    failed.accepted_encodings = [e.decode() for e in ENCODINGS]
                raise failed from None
        try:
            return self.parse(body)
        except DecodeError as error:
            raise refused(Reason.BAD_MESSAGE, f"the response does not decode: {error}") from None

    def break_off(self, reason: Reason, why: str) -> None:
        """End a call whose response is not what it has to be."""
        status = refuse(reason, Origin.CLIENT_SDK, why)
        status.disposition = Disposition.UNKNOWN  # it was sent
        self.finish(status)

    def finish(self, status: Status) -> None:
        """End the call from this side."""
        self.link.conn.reset(self, status)
        self.fail(from_status(status))

    def fail(self, error: RpcError) -> None:
        """Book an end that is no response."""
        if not self.done:
            self.done = True
            self.error = error
            if self.inbox is not None:
                self.inbox.drop()
            self.wake()

    def cancel(self) -> None:
        """The caller wants it no more. After the end it does nothing."""
        if not self.done:
            self.finish(_CANCELLED)

    def on_reset(self, status: Status, http2_code: int) -> None:  # noqa: ARG002
        """The peer ended the call."""
        self.link.refused(status)
        self.fail(from_status(status))

    def on_closed(self, status: Status) -> None:
        """The stream ended otherwise than by a RESPONSE."""
        self.fail(from_status(status))

    def on_deadline(self) -> None:
        """The deadline has passed."""
        if not self.done:
            self.finish(refuse(Reason.DEADLINE, Origin.CLIENT_SDK, "the deadline passed"))

    def on_message(self, flags: int, head: bytes, body: bytes) -> None:
        """A MESSAGE came."""
        self.arrived(flags, head, body, False)

    def on_response(self, flags: int, head: bytes, body: bytes) -> None:
        """A RESPONSE came."""
        self.arrived(flags, head, body, True)


class UnaryCall(ClientCall):
    """A call with one request and one response."""

    __slots__ = ("answer",)

    def __init__(self, link: ClientLink, parse: Callable[[bytes], Any], limit: int) -> None:
        self.link = link
        self.parse = parse
        self.limit = limit
        self.alarm = None
        self.inbox = None
        self.head = None
        self.taking = None
        self.trailers = []
        self.done = False
        self.error = None
        self.answer: asyncio.Future[Any] = link.loop.create_future()

    def on_response(self, flags: int, head: bytes, body: bytes) -> None:
        """A RESPONSE came: nearly always a whole one that says nothing but success."""
        if flags & _SHAPE == _WHOLE and head in _PLAIN and self.inbox is None and len(body) <= self.limit:
            self.done = True
            answer = self.answer
            if not answer.done():
                try:
                    answer.set_result(self.parse(body))
                except DecodeError as error:
                    answer.set_exception(refused(Reason.BAD_MESSAGE, f"the response does not decode: {error}"))
            return
        self.arrived(flags, head, body, True)

    def wake(self) -> None:
        """Answer, once the call has ended."""
        answer = self.answer
        if not self.done or answer.done():
            return
        if self.error is None:
            try:
                answer.set_result(self._single())
            except RpcError as error:
                error.trailers = self.trailers
                answer.set_exception(error)
        else:
            answer.set_exception(self.error)

    def _single(self) -> Any:
        inbox = self.inbox
        if inbox is None or len(inbox.waiting) != 1 or inbox.assembling:
            raise refused(Reason.BAD_MESSAGE, "the response has not one message")
        return self.decode(*inbox.take(self.link.conn, self))


class StreamCall(ClientCall):
    """A call with a stream in at least one direction."""

    __slots__ = ("_credit", "_flags", "_news", "method", "more", "replied", "sent_end", "unsent")

    def __init__(self, link: ClientLink, method: Method[Any, Any], limit: int, compressing: bool) -> None:
        super().__init__(link, method.response.FromString, limit)
        self.method = method
        self._news: asyncio.Future[None] | None = None
        self._credit: asyncio.Future[None] | None = None
        self._flags = COMPRESSED if compressing else 0
        self.sent_end = False
        self.unsent = 0
        self.more = False
        """Something was sent behind the REQUEST, or only a part of that: the call does not go again (S-AGAIN-4)."""
        self.replied = False
        """Something of an answer has come."""

    def arrived(self, flags: int, head: bytes, body: bytes, response: bool) -> None:
        """Book a RESPONSE or MESSAGE of any shape."""
        if not flags & END or flags & MSG:
            self.replied = True
        super().arrived(flags, head, body, response)

    def wake(self) -> None:
        """Wake who receives, and who waits for credit that will not come."""
        news, self._news = self._news, None
        if news is not None and not news.done():
            news.set_result(None)
        if self.done:
            if self.alarm is not None:
                self.link.alarms.clear(self.alarm)
            self.on_credit(True)

    def on_credit(self, done: bool) -> None:
        """A send may go on."""
        if done and self._credit is not None:
            credit, self._credit = self._credit, None
            if not credit.done():
                credit.set_result(None)

    async def sent(self, whole: bool) -> None:
        """Wait for a send that lacked credit."""
        if whole or self.done:
            return
        self._credit = self.link.loop.create_future()
        try:
            await self._credit
        except asyncio.CancelledError:
            self.cancel()
            raise

    async def send(self, message: Message) -> bool:
        """Send a message; False where the call has ended."""
        body = serialized(self.method, message)
        while self.blocked and not self.done:
            await self.sent(False)
        if self.done:
            self.unsent += 1
            return False
        self.more = True
        await self.sent(
            self.link.conn.send(self, MESSAGE, MSG | self._flags, b"", compress(body) if self._flags else body)
        )
        return True

    async def close_send(self) -> None:
        """Half-close. The second time does nothing."""
        while self.blocked and not self.done:
            await self.sent(False)
        if not self.sent_end and not self.done:
            self.more = True
            self.link.conn.send(self, MESSAGE, END, b"")
        self.sent_end = True

    async def receive(self) -> Any:
        """Return the next message, or None at the end. Raises how the call ended, if not well."""
        while True:
            inbox = self.inbox
            if inbox is not None and inbox.waiting:
                try:
                    return self.decode(*inbox.take(self.link.conn, self))
                except RpcError as error:
                    if not self.done:
                        self.link.conn.reset(self, refuse(Reason(error.reason), Origin.CLIENT_SDK, error.message))
                    self.done, self.error = True, error
                    inbox.drop()
                    raise
            if self.done:
                if self.error is not None:
                    raise self.error
                return None
            await self.news()

    async def news(self) -> None:
        """Wait until something has come. To be cancelled here is to cancel the call."""
        if self._news is None:
            self._news = self.link.loop.create_future()
        try:
            await self._news
        except asyncio.CancelledError:
            self.cancel()
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise  # else it was another task that waits here, too
