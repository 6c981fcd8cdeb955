"""A call's handler, from its first step to its last."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterable, AsyncIterator
from types import CoroutineType
from typing import Any, Final

from google.protobuf.message import DecodeError, Message

from octomesh._generated import CallOptions
from octomesh._handling.failures import BadMessageError, crashed, past_deadline, wrong_type
from octomesh._handling.responding import Responding
from octomesh._wire.compression import EncodingError, decompress
from octomesh._wire.status import Disposition, Origin, Reason, Status, refuse
from octomesh._wire.text import valid_traceparent
from octomesh.context import Carried, carried
from octomesh.errors import RpcError, status_of_handler
from octomesh.interceptors import Call, intercepted

log: Final = logging.getLogger("octomesh")

_NO_OPTIONS: Final = CallOptions()


class Running(Responding):
    """See `octomesh._handling.call.ServerCall`."""

    __slots__ = ()

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
                status = past_deadline()
            elif self._over:
                return
            elif link.server.stopped:
                status = refuse(Reason.DRAIN_DEADLINE, Origin.SERVER_SDK, "the server stopped")
            else:
                # The handler's own doing, such as a cancelled task that it waited for.
                status = crashed()
                log.exception("handler of %s was cancelled from within", self.entry.method.full_name)
        except BadMessageError as error:
            status = error.status
        except RpcError as error:
            status = status_of_handler(error)
        except Exception as error:
            status = past_deadline() if self._expired and isinstance(error, TimeoutError) else status_of_handler(error)
            log.debug("handler of %s raised", self.entry.method.full_name, exc_info=True)
        except BaseException as error:
            status = crashed()
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
                    raise BadMessageError(Reason.BAD_MESSAGE, f"the request does not decode: {error}") from None
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
        raise wrong_type(entry, answer, "an awaitable")

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
            raise wrong_type(entry, answer, "an awaitable")
        answer = await answer
        if not isinstance(answer, entry.respond):
            raise wrong_type(entry, answer)
        return call.sending(answer)  # type: ignore[no-any-return]

    async def _respond(self, responses: Any, call: Call | None) -> None:
        """Send what the handler yields."""
        if inspect.iscoroutine(responses):  # a handler without a yield: it runs, and there is nothing to send
            responses = await responses
            if responses is None:
                return
        if not isinstance(responses, AsyncIterable):
            raise wrong_type(self.entry, responses, "an async iterator")
        try:
            async for response in responses:
                if not isinstance(response, self.entry.respond):
                    raise wrong_type(self.entry, response)
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
                raise BadMessageError(error.reason, text) from None
        try:
            return self.entry.parse(body)
        except DecodeError as error:
            raise BadMessageError(Reason.BAD_MESSAGE, f"the request does not decode: {error}") from None


async def _seen(requests: AsyncIterator[Any], call: Call) -> AsyncIterator[Any]:
    async for request in requests:
        yield call.received(request)
