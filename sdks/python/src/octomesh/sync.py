"""Calls from threads, over one event loop in a thread of its own that all of a process share."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

from google.protobuf.message import Message

from octomesh._entries import MetadataList
from octomesh._generated import CallOptions, Method
from octomesh._ways.status import ChannelStatus
from octomesh.channel import Channel
from octomesh.context import carried
from octomesh.streams import BidiStream, ReceiveStream, SendStream

T = TypeVar("T")
Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)


class _Loop:
    """The loop, and the thread that runs it: made by the first call of a process, anew in the child of a fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._loop = None

    def get(self) -> asyncio.AbstractEventLoop:
        """Return the running loop."""
        loop = self._loop
        if loop is None:
            with self._lock:
                loop = self._loop
                if loop is None:
                    loop = asyncio.new_event_loop()
                    threading.Thread(target=loop.run_forever, name="octomesh", daemon=True).start()
                    self._loop = loop
        return loop

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there, and wait for it here."""
        loop = self.get()
        try:
            if asyncio.get_running_loop() is not None:
                work.close()
                raise RuntimeError(
                    "this thread runs an event loop, which a blocking call would stop: use Channel and await"
                )
        except RuntimeError as error:
            if "no running event loop" not in str(error):
                raise
        future = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # interrupted: the call must not go on alone
            raise


_LOOP: Final = _Loop()


async def _within(call: Callable[[], Coroutine[Any, Any, T]], down: Any) -> T:
    """Let a call have what the handler in whose thread it is made has received."""
    if down is not None:
        carried.set(down)
    return await call()


async def _later(work: Callable[[], T]) -> T:
    """Let something be done in the loop that takes no time."""
    return work()


class _SyncStream:
    __slots__ = ("_stream",)

    def headers(self) -> MetadataList:
        """Return the response's initial metadata, when it has come."""
        headers: MetadataList = _LOOP.run(self._stream.headers())
        return headers

    @property
    def trailers(self) -> MetadataList:
        """The metadata that ended the call; empty before its end."""
        trailers: MetadataList = self._stream.trailers
        return trailers

    def cancel(self) -> None:
        """End the call, as CANCELLED if it has not ended."""
        _LOOP.get().call_soon_threadsafe(self._stream.cancel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def __del__(self) -> None:
        # The last reference goes in the loop's thread, where the call may be ended.
        _LOOP.get().call_soon_threadsafe(_let_go, self._stream)

    _stream: Any


def _let_go(_stream: object) -> None:
    """Hold a stream until here."""


class SyncReceiveStream(_SyncStream, Generic[Res]):
    """The responses of a server streaming call: `for` gives them."""

    __slots__ = ()

    def __init__(self, stream: ReceiveStream[Res]) -> None:
        self._stream = stream

    def receive(self) -> Res | None:
        """Return the next response, or None after the last. Raises `RpcError` if the call has ended otherwise."""
        message: Res | None = _LOOP.run(self._stream.receive())
        return message

    def __iter__(self) -> Iterator[Res]:
        while (message := self.receive()) is not None:
            yield message


class SyncSendStream(_SyncStream, Generic[Req, Res]):
    """The requests of a client streaming call."""

    __slots__ = ()

    def __init__(self, stream: SendStream[Req, Res]) -> None:
        self._stream = stream

    def send(self, request: Req) -> None:
        """Send a request. Waits while the server does not read. Raises `CallEndedError` once the call has ended."""
        _LOOP.run(self._stream.send(request))

    def close_and_receive(self) -> Res:
        """Say that no more requests come, and wait for the response."""
        response: Res = _LOOP.run(self._stream.close_and_receive())
        return response


class SyncBidiStream(_SyncStream, Generic[Req, Res]):
    """A call with a stream in each direction. One thread may send while another receives."""

    __slots__ = ()

    def __init__(self, stream: BidiStream[Req, Res]) -> None:
        self._stream = stream

    def send(self, request: Req) -> None:
        """Send a request. Waits while the server does not read. Raises `CallEndedError` once the call has ended."""
        _LOOP.run(self._stream.send(request))

    def close_send(self) -> None:
        """Say that no more requests come. Receiving goes on."""
        _LOOP.run(self._stream.close_send())

    def receive(self) -> Res | None:
        """Return the next response, or None after the last. Raises `RpcError` if the call has ended otherwise."""
        message: Res | None = _LOOP.run(self._stream.receive())
        return message

    def __iter__(self) -> Iterator[Res]:
        while (message := self.receive()) is not None:
            yield message


class SyncChannel:
    """A `Channel` for threads, with the same arguments. Any number of threads may use it."""

    def __init__(self, target: str, **settings: Any) -> None:
        """See `Channel`."""
        self._channel: Final = Channel(target, **settings)

    def unary(self, method: Method[Req, Res], request: Req, options: CallOptions, /) -> Res:
        """Call a method with one request and one response."""
        return _LOOP.run(_within(lambda: self._channel.unary(method, request, options), carried.get()))

    def server_stream(self, method: Method[Req, Res], request: Req, options: CallOptions, /) -> SyncReceiveStream[Res]:
        """Call a method that answers with a stream."""
        return SyncReceiveStream(self._channel.server_stream(method, request, options))

    def client_stream(self, method: Method[Req, Res], options: CallOptions, /) -> SyncSendStream[Req, Res]:
        """Call a method that takes a stream."""
        return SyncSendStream(self._channel.client_stream(method, options))

    def bidi_stream(self, method: Method[Req, Res], options: CallOptions, /) -> SyncBidiStream[Req, Res]:
        """Call a method with a stream each way."""
        return SyncBidiStream(self._channel.bidi_stream(method, options))

    def ready(self) -> None:
        """Wait for a connection. Raises `RpcError` if none can be made."""
        _LOOP.run(self._channel.ready())

    def status(self) -> ChannelStatus:
        """Where calls go, and why."""
        return _LOOP.run(_later(self._channel.status))

    def close(self) -> None:
        """Close the channel. A connection that no other uses is closed, and calls on it end as CANCELLED."""
        _LOOP.run(self._channel.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
