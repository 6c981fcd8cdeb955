"""A streaming call, from its first attempt to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from octomesh._calls import StreamCall
from octomesh._peer import ClientLink
from octomesh._ways.route import Going, Route
from octomesh._ways.target import Path
from octomesh._wire.status import Disposition
from octomesh.errors import RpcError
from octomesh.interceptors import Call, own_error, unanswered

Send = Callable[[ClientLink, int], Awaitable[StreamCall]]
"""Sends the REQUEST of an attempt on a connection, or on another one if that takes no calls any more."""


class Streaming:
    """Opens a call, sends it again where that is safe (S-AGAIN), and counts how it ended."""

    __slots__ = (
        "_around", "_booked", "_busy", "_cancelled", "_ended", "_error", "_going", "_prepare", "_route", "_send",
        "call", "seen",
    )  # fmt: skip

    def __init__(
        self,
        prepare: Callable[[], tuple[Route, Going, Send]],
        seen: Call,
        around: Callable[[Callable[[], Awaitable[object]]], Awaitable[None]] | None,
        ended: Callable[[RpcError | None], None],
    ) -> None:
        """Prepare is called with the first use, in its task. It may raise `RpcError`.

        seen is the call as interceptors have it, around puts them around its opening, and ended is told of its end.
        """
        self.seen: Final = seen
        self._around: Final = around
        self._ended: Final = ended
        self.call: StreamCall | None = None
        """The attempt that runs, or was the last; None before the first."""
        self._prepare: Final = prepare
        self._route: Route | None = None
        self._going: Going | None = None
        self._send: Send | None = None
        self._busy: asyncio.Future[None] | None = None  # somebody opens it
        self._error: RpcError | None = None  # why it could not be opened
        self._cancelled = False
        self._booked = False

    @property
    def path(self) -> Path:
        """The way that the call took."""
        return Path.NONE if self._going is None else self._going.at

    async def opened(self) -> StreamCall:
        """The attempt that runs, which is begun with the first use. Raises `RpcError` if it cannot be."""
        while self._busy is not None:
            await asyncio.shield(self._busy)
        if self.call is not None:
            return self.call
        if self._error is not None:
            raise self._error
        try:
            return await (self._open() if self._around is None else self._intercepted(self._around))
        except RpcError as error:
            self._error = error
            self._book(error)
            raise

    async def _intercepted(self, around: Callable[[Callable[[], Awaitable[object]]], Awaitable[None]]) -> StreamCall:
        """Open the first attempt through interceptors. Raises `RpcError`, also for what they raise."""
        self._busy = busy = asyncio.get_running_loop().create_future()
        try:
            await around(self._open)
            if self.call is None:
                raise unanswered("an interceptor opened no stream and raised no error")
            return self.call
        except BaseException as error:
            if self.call is not None:
                self.call.cancel()
            said = own_error(error)
            if said is error:
                raise
            raise said from error
        finally:
            if self._busy is busy:
                self._busy = None
            busy.set_result(None)

    async def _open(self) -> StreamCall:
        self._busy = busy = asyncio.get_running_loop().create_future()
        try:
            if self._route is None or self._going is None or self._send is None:
                self._route, self._going, self._send = self._prepare()
            link = await self._route.pick(self._going)
            call = self.call = await self._send(link, self._going.resent)
        finally:
            self._busy = None
            busy.set_result(None)
        if self._cancelled:
            call.cancel()
        return call

    async def again(self, ended: StreamCall) -> bool:
        """Send an attempt again that has ended; False: the call ends so, or as its error now says."""
        while self._busy is not None:
            await asyncio.shield(self._busy)
        if self.call is not ended:
            return True
        error = ended.error
        if (
            error is None
            or ended.more
            or ended.replied
            or self._cancelled
            or error.disposition == Disposition.PROCESSED
            or self._route is None
            or self._going is None
            or not self._route.again(self._going, error)
        ):
            return False
        try:
            await self._open()
        except RpcError as failed:
            ended.error = failed
            return False
        return True

    def cancel(self) -> None:
        """End the call, as CANCELLED if it has not ended."""
        self._cancelled = True
        if self.call is not None:
            self.call.cancel()
            self.settle()

    def settle(self) -> None:
        """Count the call, once, if it has ended."""
        call = self.call
        if call is None or not call.done or self._booked:
            return
        if call.error is None:
            call.link.peer.succeeded()
        self._book(call.error)

    def _book(self, error: RpcError | None) -> None:
        if self._booked:
            return
        self._booked = True
        self._ended(error)
        if self._route is not None and self._going is not None:
            self._route.over(self._going, None, error)
