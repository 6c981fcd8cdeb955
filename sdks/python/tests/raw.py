"""The other end of an SDK's connection, played by a test: it sees each frame and says what it wants, right or wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from octomesh._wire.conn import ACCEPTOR, DIALER, Connection
from octomesh._wire.frame import GOAWAY, HEADER, REQUEST, RESET, RESPONSE, WELCOME
from octomesh._wire.heads import RequestHead, ResetHead, ResponseHead
from octomesh._wire.hello import PEER_SDK, ROLE_CALL, GoAway, Hello, Welcome
from octomesh._wire.status import Status

PATIENCE: Final = 10.0
KIND_UNARY: Final = 1


class _Nobody:
    """An owner that is told nothing, since the frames are looked at one by one."""

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_: None


def frame(kind: int, flags: int, stream: int, head: bytes = b"", body: bytes = b"") -> bytes:
    """A frame of any content."""
    return HEADER.pack(0x0C70 << 16 | 1 << 8 | kind, flags, len(head), stream, len(body)) + head + body


class Raw:
    """A connection, frame by frame."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._next = 1

    async def frame(self) -> tuple[int, int, int, bytes, bytes]:
        """The next frame: type, flags, stream, head and body."""
        async with asyncio.timeout(PATIENCE):
            word, flags, head, stream, body = HEADER.unpack(await self.reader.readexactly(16))
            return (
                word & 0xFF,
                flags,
                stream,
                await self.reader.readexactly(head),
                await self.reader.readexactly(body),
            )

    async def next(self, kind: int) -> tuple[int, int, int, bytes, bytes]:
        """The next frame of a type, passing over others."""
        while (found := await self.frame())[0] != kind:
            pass
        return found

    async def goaway(self) -> GoAway:
        """The last word of the other end, and its end of file behind it."""
        goaway = GoAway.parse((await self.next(GOAWAY))[3])
        async with asyncio.timeout(PATIENCE):
            assert await self.reader.read() == b""
        return goaway

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)

    def call(self, head: bytes, flags: int, body: bytes = b"") -> int:
        """Open a call with any head, flags and body; returns its stream."""
        stream, self._next = self._next, self._next + 2
        self.write(frame(REQUEST, flags, stream, head, body))
        return stream

    async def end(self, stream: int) -> Status:
        """How a call ended, by RESPONSE or by RESET."""
        while True:
            kind, flags, sid, head, _ = await self.frame()
            if sid == stream and kind == RESET:
                return ResetHead.parse(head).status
            if sid == stream and kind == RESPONSE and flags & 1:
                return ResponseHead.parse(head).status or Status()


def say_head(**changes: Any) -> bytes:
    """The head of a call of echo.v1.Echo/Say."""
    h = RequestHead()
    h.target, h.service, h.method, h.call_kind = b"echo", b"echo.v1.Echo", b"Say", KIND_UNARY
    for name, value in changes.items():
        setattr(h, name, value)
    return h.encode()


async def dial(address: str) -> Raw:
    """Connect to a server, and say nothing."""
    host, _, port = address.rpartition(":")
    return Raw(*await asyncio.open_connection(host, int(port)))


async def knock(address: str, **hello: Any) -> Raw:
    """Play a caller that dialed a server, and has said HELLO."""
    raw = await dial(address)
    said = Connection(DIALER, _Nobody())  # type: ignore[arg-type]
    words: dict[str, Any] = {
        "role": ROLE_CALL,
        "kind": PEER_SDK,
        "environment": b"default",
        "application": b"test",
        "instance": b"test-1",
    }
    said.hello(Hello(**(words | hello)))
    raw.write(said.take())
    return raw


async def caller(address: str) -> Raw:
    """Play a caller that has heard WELCOME."""
    raw = await knock(address)
    await raw.next(WELCOME)
    return raw


@asynccontextmanager
async def listening(serve: Callable[[Raw], Awaitable[None]]) -> AsyncIterator[str]:
    """Play servers: each connection is welcomed and handed to a function. Gives the address."""
    failed: list[BaseException] = []

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw = Raw(reader, writer)
        try:
            await raw.frame()
            said = Connection(ACCEPTOR, _Nobody())  # type: ignore[arg-type]
            said.welcome(Welcome(kind=PEER_SDK, instance=b"raw"))
            raw.write(said.take())
            await serve(raw)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the other end has gone
        except BaseException as error:
            failed.append(error)
        finally:
            writer.close()

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    try:
        name = server.sockets[0].getsockname()
        yield f"{name[0]}:{name[1]}"
    finally:
        server.close()
    for error in failed:
        raise error
