"""What stands in the place of a proxy: it takes calls, and answers as a test says."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Self

from echo.v1.echo_pb2 import Message

from octomesh._link import Link
from octomesh._wire.conn import ACCEPTOR
from octomesh._wire.frame import END, MESSAGE, MSG, RESPONSE
from octomesh._wire.heads import RequestHead
from octomesh._wire.hello import GOAWAY_DRAINING, PEER_PROXY, Hello, Welcome
from octomesh._wire.limits import Limits
from octomesh._wire.status import Origin, Reason, Status, refuse
from octomesh._wire.stream import Stream

PATIENCE = 30.0


class Request(Stream):
    """One call, as it came."""

    def __init__(self, link: RawLink) -> None:
        self.link = link
        self.head = RequestHead()
        self.body = b""
        self.messages: list[bytes] = []
        self.ended = False

    def on_request(self, flags: int, head: bytes, body: bytes) -> None:
        self.head = RequestHead.parse(head)
        self.body = body
        self.ended = bool(flags & END)
        if self.head.target == b"octo.directory":  # it knows nothing of targets
            self.refuse(Reason.UNKNOWN_SERVICE)
        else:
            self.link.proxy.requests.put_nowait(self)

    def on_message(self, flags: int, _head: bytes, body: bytes) -> None:
        if flags & MSG:
            self.messages.append(body)
        self.ended = bool(flags & END)

    def on_closed(self, _status: Status) -> None:
        self.ended = True

    def refuse(self, reason: Reason, origin: Origin = Origin.CLIENT_PROXY) -> None:
        """End it as a proxy refuses calls."""
        self.link.conn.reset(self, refuse(reason, origin))

    def say(self, text: str) -> None:
        """Send a message of an answer."""
        self.link.conn.send(self, MESSAGE, MSG, b"", Message(text=text).SerializeToString())

    def answer(self, text: str = "") -> None:
        """End it well, with a message."""
        self.link.conn.send(self, RESPONSE, MSG | END, b"", Message(text=text).SerializeToString())


class RawLink(Link):
    """One connection to it."""

    def __init__(self, proxy: RawProxy) -> None:
        super().__init__(asyncio.get_running_loop(), ACCEPTOR, Origin.CLIENT_PROXY, proxy.limits)
        self.proxy = proxy

    def begin(self) -> None:
        self.proxy.links.append(self)

    def on_hello(self, _hello: Hello) -> None:
        self.proxy.hellos += 1
        if self.proxy.welcoming:
            self.conn.welcome(Welcome(kind=PEER_PROXY))
            self.welcomed()

    def accept(self) -> Request:
        return Request(self)

    def stop(self) -> None:
        """Be silent from now on, as by SIGSTOP."""
        assert self._ticker is not None
        self._ticker.cancel()
        assert self.transport is not None
        self.transport.pause_reading()

    def go_on(self) -> None:
        assert self.transport is not None
        self.transport.resume_reading()


class RawProxy:
    """A socket where calls come."""

    def __init__(self, path: Path, limits: Limits = Limits()) -> None:  # noqa: B008  a tuple
        self.path = path
        self.limits = limits
        self.welcoming = True
        """It answers HELLO."""
        self.hellos = 0
        self.links: list[RawLink] = []
        self.requests: asyncio.Queue[Request] = asyncio.Queue()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def listen(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: RawLink(self), self.path)

    async def next(self) -> Request:
        """The next call that comes."""
        async with asyncio.timeout(PATIENCE):
            return await self.requests.get()

    def leave(self) -> None:
        """Ask all who are connected to move."""
        for link in self.links:
            link.conn.leave(GOAWAY_DRAINING)

    async def kill(self) -> None:
        """Be gone, as by SIGKILL."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self.path.unlink()
        links, self.links = self.links, []
        for link in links:
            link.abort()
            await link.lost

    async def __aexit__(self, *_why: object) -> None:
        await self.kill()
