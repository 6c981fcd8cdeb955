"""Streams of calls, as callers have them."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

from google.protobuf.message import Message

from octomesh._calls import StreamCall
from octomesh._entries import MetadataList
from octomesh._ways.streaming import Streaming
from octomesh._ways.target import Path
from octomesh._wire.status import Reason
from octomesh.errors import RpcError, bad_call, refused

Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)


class CallEndedError(Exception):
    """A message was given to `send` after the server had ended the call: receiving says how it ended."""


class _Stream:
    """A call that may still have to be opened.

    Read a stream to its end, use it by `async with`, cancel it, or let go of it: then the call ends.
    """

    __slots__ = ("__weakref__", "_way")

    def __init__(self, way: Streaming) -> None:
        self._way: Final = way

    @property
    def _call(self) -> StreamCall | None:
        return self._way.call

    async def open(self) -> None:
        """Begin the call now, where that is not to wait for its first use."""
        await self._way.opened()

    @property
    def path(self) -> Path:
        """The way that the call took, of several the last."""
        return self._way.path

    @property
    def received_headers(self) -> MetadataList:
        """The response's initial metadata, as far as it has come."""
        return self._call.headers if self._call is not None else []

    async def headers(self) -> MetadataList:
        """Return the response's initial metadata. Waits until it has come, or cannot come any more."""
        while True:
            call = await self._way.opened()
            while call.head is None and not call.replied and not call.done:
                await call.news()
            if not call.done or not await self._way.again(call):
                return call.headers

    async def _received(self) -> Any:
        """The next response, or None after the last."""
        while True:
            call = self._way.call or await self._way.opened()
            try:
                message = await call.receive()
            except RpcError as error:
                if await self._way.again(call):
                    continue
                self._way.settle()
                raise call.error or error from None
            except asyncio.CancelledError:
                self._way.settle()
                raise
            if message is None:
                self._way.settle()
                return None
            return self._way.seen.received(message) if self._way.seen.on_receive else message

    @property
    def trailers(self) -> MetadataList:
        """The metadata that ended the call; empty before its end."""
        return self._call.trailers if self._call is not None else []

    def cancel(self) -> None:
        """End the call, as CANCELLED if it has not ended."""
        self._way.cancel()

    async def __aenter__(self) -> Self:
        await self._way.opened()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def __del__(self) -> None:
        call = self._call
        if call is not None and not call.link.loop.is_closed():
            self._way.cancel()


class _Receiving(_Stream, Generic[Res]):
    __slots__ = ()

    async def receive(self) -> Res | None:
        """Return the next response, or None after the last. Raises `RpcError` if the call has ended otherwise."""
        message: Res | None = await self._received()
        return message

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Res:
        message: Res | None = await self._received()
        if message is None:
            raise StopAsyncIteration
        return message


class _Sending(_Stream, Generic[Req]):
    __slots__ = ()

    async def send(self, request: Req) -> None:
        """Send a request. Waits while the server does not read. Raises `CallEndedError` once the call has ended."""
        seen = False
        while True:
            call = await self._way.opened()
            if call.sent_end:
                raise bad_call("send after the half-close")
            if not seen:
                request, seen = self._way.seen.sending(request), True
            if call.done and await self._way.again(call):
                continue
            if not await call.send(request):
                raise CallEndedError("the call has ended; receiving says how")
            return

    async def _close_send(self) -> None:
        while True:
            call = await self._way.opened()
            if not call.done or call.sent_end or not await self._way.again(call):
                break
        await call.close_send()

    @property
    def unsent(self) -> int:
        """How many requests were given to `send` after the call had ended."""
        return self._call.unsent if self._call is not None else 0


class ReceiveStream(_Receiving[Res]):
    """The responses of a server streaming call: `async for` gives them. For one task at a time, but for `cancel`."""

    __slots__ = ()


class SendStream(_Sending[Req], Generic[Req, Res]):
    """The requests of a client streaming call. For one task at a time, but for `cancel`."""

    __slots__ = ()

    async def close_and_receive(self) -> Res:
        """Say that no more requests come, and wait for the response."""
        await self._close_send()
        response: Res | None = await self._received()
        if response is None:
            raise refused(Reason.BAD_MESSAGE, "the response has no message")
        if await self._received() is not None:
            self.cancel()
            raise refused(Reason.BAD_MESSAGE, "the response has more than one message")
        return response


class BidiStream(_Receiving[Res], _Sending[Req], Generic[Req, Res]):
    """A call with a stream in each direction. One task may send while another receives."""

    __slots__ = ()

    async def close_send(self) -> None:
        """Say that no more requests come. Receiving goes on."""
        await self._close_send()


__all__ = ["BidiStream", "CallEndedError", "ReceiveStream", "RpcError", "SendStream"]
